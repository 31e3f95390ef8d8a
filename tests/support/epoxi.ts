/** The real program as a process of its own, for tests that kill it, watch it or put strangers in front of it. */

import { until } from "./until.ts";

/** How to start it. */
export interface EpoxiOptions {
  readonly mode?: "serve" | "dev";
  /** Kept over restarts when given; else a new folder that goes away with the process. */
  readonly dataDir?: string;
  /** Settings beside the folder and the listeners. */
  readonly env?: Readonly<Record<string, string>>;
  /** Command to run in place of this checkout's `main.ts`: a compiled binary, say. */
  readonly command?: readonly string[];
  /** Time to become ready, in milliseconds. */
  readonly readyWithin?: number;
}

const CHECKOUT = new URL("../../", import.meta.url).pathname;

/** The command that runs this checkout, without the subcommand. */
export function fromSource(): string[] {
  const allowed = ["net", "read", "write", "env", "sys"].map((name) => `--allow-${name}`);
  return [
    Deno.execPath(),
    "run",
    "--v8-flags=--heap-growing-percent=30",
    "--no-prompt",
    "--quiet",
    ...allowed,
    `${CHECKOUT}main.ts`,
  ];
}

/** A port of 127.0.0.1 nobody listens on just now. */
export function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return port;
}

/** A running server. `await using` stops it and removes what it left. */
export class EpoxiProcess implements AsyncDisposable {
  readonly pid: number;
  readonly smtpPort: number;
  readonly httpPort: number;
  readonly dataDir: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<unknown>;
  readonly #lines: string[];
  readonly #ownsDataDir: boolean;
  #exit: Deno.CommandStatus | undefined;

  private constructor(
    child: Deno.ChildProcess,
    place: { smtpPort: number; httpPort: number; dataDir: string; ownsDataDir: boolean },
  ) {
    this.#child = child;
    this.pid = child.pid;
    this.smtpPort = place.smtpPort;
    this.httpPort = place.httpPort;
    this.dataDir = place.dataDir;
    this.#ownsDataDir = place.ownsDataDir;
    this.#lines = [];
    this.#output = Promise.all([keep(child.stdout, this.#lines), keep(child.stderr, this.#lines)]);
    child.status.then((status) => this.#exit = status);
  }

  /**
   * Starts the program and waits until it says it is ready.
   * @throws {Error} with its output, where it ends before.
   */
  static async start(options: EpoxiOptions = {}): Promise<EpoxiProcess> {
    const dataDir = options.dataDir ?? await Deno.makeTempDir({ prefix: "epoxi-test-" });
    const [smtpPort, httpPort] = [freePort(), freePort()];
    const [program, ...args] = [...(options.command ?? fromSource()), options.mode ?? "serve"];
    const child = new Deno.Command(program!, {
      args,
      env: {
        EPOXI_DATA_DIR: dataDir,
        EPOXI_SMTP_LISTEN: `127.0.0.1:${smtpPort}`,
        EPOXI_HTTP_LISTEN: `127.0.0.1:${httpPort}`,
        EPOXI_HOSTNAME: "mta.epoxi.test",
        EPOXI_MIN_FREE_DISK: "64MiB",
        EPOXI_LOG_FORMAT: "json",
        ...options.env,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const ownsDataDir = options.dataDir === undefined;
    const epoxi = new EpoxiProcess(child, { smtpPort, httpPort, dataDir, ownsDataDir });
    try {
      await epoxi.#ready(options.readyWithin ?? 30_000);
      return epoxi;
    } catch (error) {
      await epoxi[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Base of its HTTP API. */
  get api(): string {
    return `http://127.0.0.1:${this.httpPort}`;
  }

  /** Everything it has written so far. */
  get output(): string {
    return this.#lines.join("\n");
  }

  /** Answer of its API as JSON. */
  async get<T>(path: string): Promise<T> {
    const response = await fetch(this.api + path);
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return await response.json() as T;
  }

  /** Resident set size in bytes. */
  rss(): number {
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN) * 1024;
  }

  /** Kills it, with nothing written or answered any more. */
  async crash(): Promise<void> {
    this.#kill("SIGKILL");
    await this.#child.status;
    await this.#output;
  }

  /** Asks it to stop, and answers its exit code. */
  async stop(): Promise<number> {
    this.#kill("SIGTERM");
    const { code } = await this.#child.status;
    await this.#output;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.crash();
    if (this.#ownsDataDir) await Deno.remove(this.dataDir, { recursive: true });
  }

  #kill(signal: Deno.Signal): void {
    if (this.#exit) return;
    try {
      this.#child.kill(signal);
    } catch (error) {
      // It ended by itself in this moment.
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async #ready(within: number): Promise<void> {
    const url = `${this.api}/readyz`;
    await until(
      `answer of ${url}`,
      async () => {
        if (this.#exit) throw new Error(`epoxi ended with code ${this.#exit.code}:\n${this.output}`);
        try {
          const response = await fetch(url);
          await response.body?.cancel();
          return response.ok;
        } catch (error) {
          if (error instanceof TypeError) return false; // nobody listens yet
          throw error;
        }
      },
      undefined,
      within,
    ).catch((error) => {
      throw new Error(`${error instanceof Error ? error.message : error}\n${this.output}`);
    });
  }
}

const KEPT_LINES = 2_000;

async function keep(stream: ReadableStream<Uint8Array>, lines: string[]): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
    if (lines.length > KEPT_LINES) lines.splice(0, lines.length - KEPT_LINES);
  }
  if (rest !== "") lines.push(rest);
}

/** Where a program lies, or undefined where this machine has none. */
export function findProgram(name: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];
  for (const folder of folders) {
    const path = `${folder}/${name}`;
    try {
      const info = Deno.statSync(path);
      if (info.isFile && ((info.mode ?? 0) & 0o111) !== 0) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    }
  }
  return undefined;
}

/**
 * A test that needs programs of the system. Where one is missing it is counted as ignored, and its name says why.
 * `also` adds a further reason, undefined when all is well.
 */
export function peerTest(
  name: string,
  programs: readonly string[],
  test: () => Promise<void>,
  also?: string,
): void {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  const reason = missing.length > 0 ? `${missing.join(", ")} not found` : also;
  Deno.test({
    name: reason === undefined ? name : `${name} (skipped: ${reason})`,
    ignore: reason !== undefined,
    fn: test,
    // Processes and their pipes end with `await using` inside the test.
    sanitizeResources: false,
    sanitizeOps: false,
  });
}

/** Runs a program to its end. */
export async function run(
  command: readonly string[],
  options: { stdin?: string; env?: Record<string, string>; cwd?: string } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(options.env ? { env: options.env } : {}),
    ...(options.cwd ? { cwd: options.cwd } : {}),
  }).spawn();
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(options.stdin));
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}
