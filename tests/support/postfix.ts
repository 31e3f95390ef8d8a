/** A Postfix of our own: configuration, queue and ports apart from any the system runs. Needs root. */
import { findProgram, freePort, run } from "./epoxi.ts";
import { until } from "./until.ts";

/** The programs {@linkcode Postfix} needs. */
export const POSTFIX_PROGRAMS = ["postfix", "postconf"] as const;

/** Why Postfix can't be run here, or undefined when it can. */
export function noPostfix(): string | undefined {
  return Deno.uid() === 0 ? undefined : "Postfix starts as root only";
}

/** Options of {@linkcode Postfix.start}. */
export interface PostfixOptions {
  /** Lines of main.cf beside those that keep it apart and on loopback. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Services of master.cf beside the listener: name, type, wakeup, limit and program. */
const SERVICES = `
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
proxywrite unix  - - n - 1 proxymap
smtp       unix  - - n - - smtp
relay      unix  - - n - - smtp
showq      unix  n - n - - showq
error      unix  - - n - - error
retry      unix  - - n - - error
discard    unix  - - n - - discard
local      unix  - n n - - local
virtual    unix  - n n - - virtual
lmtp       unix  - - n - - lmtp
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
`;

/** A running instance; `await using` stops it and removes all it left. */
export class Postfix implements AsyncDisposable {
  readonly port: number;
  readonly #dir: string;

  private constructor(dir: string, port: number) {
    this.#dir = dir;
    this.port = port;
  }

  /** Starts an instance that listens on 127.0.0.1. */
  static async start(options: PostfixOptions = {}): Promise<Postfix> {
    const dir = await Deno.makeTempDir({ prefix: "epoxi-postfix-" });
    const postfix = new Postfix(dir, freePort());
    try {
      await postfix.#configure(options);
      const started = await postfix.#postfix("start");
      if (started.code !== 0) throw new Error(`postfix start: ${started.stderr}${started.stdout}`);
      await until("listening Postfix", () => accepts(postfix.port));
      return postfix;
    } catch (error) {
      await postfix[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Its log so far. */
  log(): string {
    try {
      return Deno.readTextFileSync(`${this.#dir}/log`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }

  /** Process id of its master, the parent of all others. */
  async masterPid(): Promise<number> {
    return Number((await Deno.readTextFile(`${this.#dir}/queue/pid/master.pid`)).trim());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#postfix("stop");
    await Deno.remove(this.#dir, { recursive: true });
  }

  #postfix(command: string) {
    return run([findProgram("postfix")!, "-c", `${this.#dir}/etc`, command]);
  }

  async #configure(options: PostfixOptions): Promise<void> {
    const dir = this.#dir;
    // Its daemons run as user postfix and must get through.
    await Deno.chmod(dir, 0o755);
    for (const name of ["etc", "queue", "data"]) await Deno.mkdir(`${dir}/${name}`);
    const own = (await run(["id", "-u", "postfix"])).stdout.trim();
    await Deno.chown(`${dir}/data`, Number(own), null);
    const settings = {
      compatibility_level: "3.6",
      queue_directory: `${dir}/queue`,
      data_directory: `${dir}/data`,
      maillog_file: `${dir}/log`,
      maillog_file_prefixes: dir,
      multi_instance_name: `postfix-${this.port}`,
      multi_instance_enable: "no",
      inet_interfaces: "127.0.0.1",
      inet_protocols: "ipv4",
      myhostname: "postfix.epoxi.test",
      mydestination: "",
      mynetworks: "127.0.0.0/8",
      alias_maps: "",
      alias_database: "",
      local_recipient_maps: "",
      smtpd_recipient_restrictions: "permit_mynetworks, reject",
      smtp_dns_support_level: "disabled",
      smtp_host_lookup: "native",
      ...options.settings,
    };
    const main = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`).join("");
    await Deno.writeTextFile(`${dir}/etc/main.cf`, main);
    const listener = `127.0.0.1:${this.port} inet n - n - - smtpd\n`;
    await Deno.writeTextFile(`${dir}/etc/master.cf`, listener + SERVICES.trimStart());
  }
}

async function accepts(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}
