/** The mail servers the benchmark compares: each started fresh, on loopback, with its queue on disk. */
import { EpoxiProcess, findProgram, freePort, run } from "../tests/support/epoxi.ts";
import { noPostfix, Postfix, POSTFIX_PROGRAMS } from "../tests/support/postfix.ts";
import { until } from "../tests/support/until.ts";

/** A started server. */
export interface Running extends AsyncDisposable {
  readonly port: number;
  /** The process all its others descend from. */
  readonly pid: number;
}

/** One contender. */
export interface Peer {
  readonly name: string;
  /** Why it can't take part, or undefined when it can. */
  missing(): string | undefined;
  /** Starts it with all mail going to the sink on 127.0.0.1. */
  start(sinkPort: number): Promise<Running>;
}

const epoxi: Peer = {
  name: "epoxi",
  missing: () => undefined,
  async start(sinkPort) {
    const process = await EpoxiProcess.start({
      env: { EPOXI_ROUTES: `*=127.0.0.1:${sinkPort}`, EPOXI_LOG_LEVEL: "warn" },
    });
    return {
      port: process.smtpPort,
      pid: process.pid,
      [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
    };
  },
};

const postfix: Peer = {
  name: "postfix",
  missing() {
    const absent = POSTFIX_PROGRAMS.filter((name) => findProgram(name) === undefined);
    return absent.length > 0 ? `${absent.join(", ")} not found` : noPostfix();
  },
  async start(sinkPort) {
    const instance = await Postfix.start({ settings: { relayhost: `[127.0.0.1]:${sinkPort}` } });
    return {
      port: instance.port,
      pid: await instance.masterPid(),
      [Symbol.asyncDispose]: () => instance[Symbol.asyncDispose](),
    };
  },
};

/** Haraka's plugin: everyone may relay, through its outbound queue, to one place. */
const HARAKA_PLUGIN = (port: number) => `
exports.hook_rcpt = function (next, connection) {
  connection.relaying = true;
  next(OK);
};
exports.hook_get_mx = function (next) {
  next(OK, { priority: 0, exchange: "127.0.0.1", port: ${port} });
};
`;

/** Haraka from the npm registry, installed once into a folder of its own. */
function haraka(installed: { dir?: string }): Peer {
  return {
    name: "haraka",
    missing() {
      const absent = ["node", "npm"].filter((name) => findProgram(name) === undefined);
      return absent.length > 0 ? `${absent.join(", ")} not found` : undefined;
    },
    async start(sinkPort) {
      const home = installed.dir ??= await installHaraka();
      const dir = await Deno.makeTempDir({ prefix: "epoxi-haraka-" });
      const port = freePort();
      await configureHaraka(`${home}/node_modules/Haraka/config`, dir, port, sinkPort);
      const child = new Deno.Command("node", {
        args: [`${home}/node_modules/Haraka/bin/haraka`, "-c", dir],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      const running: Running = {
        port,
        pid: child.pid,
        async [Symbol.asyncDispose]() {
          try {
            child.kill("SIGKILL");
          } catch (error) {
            if (!(error instanceof TypeError)) throw error; // it has ended by itself
          }
          await child.status;
          await Deno.remove(dir, { recursive: true });
        },
      };
      try {
        await until("greeting of Haraka", () => greets(port));
        return running;
      } catch (error) {
        await running[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}

/** Haraka's own defaults, but for listener, log, plugins and the way out. */
async function configureHaraka(defaults: string, dir: string, port: number, sinkPort: number): Promise<void> {
  for (const name of ["config", "plugins", "queue"]) await Deno.mkdir(`${dir}/${name}`);
  for await (const { name, isFile } of Deno.readDir(defaults)) {
    if (isFile) await Deno.copyFile(`${defaults}/${name}`, `${dir}/config/${name}`);
  }
  const files = {
    "config/smtp.ini": `listen=127.0.0.1:${port}\n`,
    "config/me": "haraka.epoxi.test\n",
    "config/plugins": "bench\n",
    "config/log.ini": "[main]\nlevel=error\n",
    "config/outbound.ini": "local_mx_ok=true\nenable_tls=false\n",
    "plugins/bench.js": HARAKA_PLUGIN(sinkPort),
  };
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${dir}/${name}`, text);
}

async function installHaraka(): Promise<string> {
  const dir = await Deno.makeTempDir({ prefix: "epoxi-haraka-npm-" });
  const { code, stderr } = await run(
    ["npm", "install", "--silent", "--no-audit", "--no-fund", "Haraka@3.1.6"],
    { cwd: dir },
  );
  if (code !== 0) throw new Error(`Haraka can't be installed: ${stderr}`);
  return dir;
}

async function greets(port: number): Promise<boolean> {
  try {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    return await conn.read(new Uint8Array(512)) !== null;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}

/** Every contender; `dispose` removes what had to be installed. */
export function allPeers(): { peers: readonly Peer[]; dispose: () => Promise<void> } {
  const installed: { dir?: string } = {};
  return {
    peers: [epoxi, postfix, haraka(installed)],
    async dispose() {
      if (installed.dir) await Deno.remove(installed.dir, { recursive: true });
    },
  };
}

/**
 * Memory of a process and its descendants in bytes, with pages they share counted once (PSS): a server of many small
 * processes would look far larger than it is otherwise.
 */
export function memoryOf(pid: number): number {
  const parents = new Map<number, number[]>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readProc(`/proc/${name}/stat`);
    // The program's name in parentheses may hold anything; the parent is the second field after it.
    const parent = Number(stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    if (stat) parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
  }
  let total = 0;
  const open = [pid];
  for (let each = open.pop(); each !== undefined; each = open.pop()) {
    total += Number(/^Pss:\s+(\d+) kB$/m.exec(readProc(`/proc/${each}/smaps_rollup`) ?? "")?.[1] ?? 0) * 1024;
    open.push(...parents.get(each) ?? []);
  }
  return total;
}

function readProc(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined; // it ended meanwhile
  }
}
