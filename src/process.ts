/** This program as a process: what the commands need from it, signals, and the log's way out. */
import { startApp } from "./app.ts";
import type { CliDeps, SubmitConnection, SubmitMail, SubmitTarget } from "./cli/deps.ts";
import { readConfig } from "./config/read_config.ts";
import { connectSmtp, DEFAULT_TIMEOUTS, type Stage, type Timeouts } from "./delivery/client.ts";
import { describeResult, sendMail } from "./delivery/transaction.ts";
import { systemClock } from "./platform/clock.ts";
import { processEnvironment } from "./platform/environment.ts";
import { createLog } from "./telemetry/log.ts";

/** A second signal within this time is the first one's echo (a terminal and its shell both send it). */
const ECHO = 1_000;
/** Log lines are written together, at the latest after this many milliseconds. */
const LOG_DELAY = 20;

/** Everything the commands are given, from this process. */
export function processDeps(version: string): CliDeps {
  const environment = processEnvironment();
  return {
    version,
    environment,
    serve: (mode) => serve(mode, environment),
    connect,
    fetch,
    write: (text) => writeSync(Deno.stdout, text),
    writeError: (text) => writeSync(Deno.stderr, text),
    readInput: async () => new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer()),
    readFile: (path) => Deno.readFile(path),
    interrupted() {
      const abort = new AbortController();
      Deno.addSignalListener("SIGINT", () => abort.abort());
      return abort.signal;
    },
  };
}

/** Runs the server until a signal, then drains. Resolves with the exit code. */
async function serve(mode: "serve" | "dev", environment: CliDeps["environment"]): Promise<number> {
  const config = readConfig(mode, environment);
  const output = bufferedOutput();
  const log = createLog({
    format: config.logFormat,
    level: config.logLevel,
    now: Date.now,
    write: output.write,
  });
  let app: Awaited<ReturnType<typeof startApp>>;
  try {
    app = await startApp(config, log);
  } finally {
    output.flush();
  }
  if (mode === "dev") {
    const [web] = app.http.addresses;
    const [smtp] = app.smtp.addresses;
    output.write(
      `Mail is captured, never sent. SMTP ${smtp?.host}:${smtp?.port}, page http://${web?.host}:${web?.port}/`,
    );
  }
  const now = await stopSignal();
  log.info("stopping", { limit: `${config.shutdownTimeout}ms` });
  now.addEventListener("abort", () => log.warn("stopping now", { reason: "second signal" }));
  await app.close(AbortSignal.any([now, AbortSignal.timeout(config.shutdownTimeout)]));
  log.info("stopped");
  output.flush();
  return 0;
}

/** Resolves at the first SIGTERM or SIGINT with a signal that aborts at the next one. */
function stopSignal(): Promise<AbortSignal> {
  const now = new AbortController();
  return new Promise((resolve) => {
    let first: number | undefined;
    const onSignal = () => {
      const at = systemClock.monotonic();
      if (first === undefined) {
        first = at;
        resolve(now.signal);
      } else if (at - first > ECHO) now.abort();
    };
    Deno.addSignalListener("SIGTERM", onSignal);
    Deno.addSignalListener("SIGINT", onSignal);
  });
}

/** One write for many lines: a log must not cost more than the mail it tells of. */
function bufferedOutput(): { write: (line: string) => void; flush: () => void } {
  let text = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    const out = text;
    text = "";
    if (out) writeSync(Deno.stdout, out);
  };
  return {
    flush,
    write(line) {
      text += line + "\n";
      timer ??= setTimeout(flush, LOG_DELAY);
    },
  };
}

function writeSync(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let sent = 0; sent < bytes.length;) sent += stream.writeSync(bytes.subarray(sent));
  } catch {
    // Whoever read our output has gone; that is no reason to stop delivering mail.
  }
}

async function connect(target: SubmitTarget): Promise<SubmitConnection> {
  const { host, port, hostname, tls, auth, timeout, transcript } = target;
  const stages = Object.keys(DEFAULT_TIMEOUTS) as (Stage | "block")[];
  const timeouts = Object.fromEntries(stages.map((stage) => [stage, timeout])) as Timeouts;
  const connection = await connectSmtp({
    host,
    address: host,
    port,
    hostname,
    tls,
    verify: tls === "require" || tls === "implicit",
    timeouts,
    ...(auth ? { auth } : {}),
    ...(transcript ? { transcript } : {}),
  });
  return {
    async send(mail: SubmitMail) {
      const results = await sendMail(connection, {
        reversePath: mail.reversePath,
        recipients: mail.recipients.map((address) => ({ address })),
        size: mail.content.length,
        body: mail.eightBit ? "8BITMIME" : "7BIT",
        smtpUtf8: mail.smtpUtf8,
        requireTls: false,
        bytes: mail.content,
        async *content() {
          yield mail.content;
        },
      });
      return results.map((result, i) => ({
        recipient: mail.recipients[i]!,
        accepted: result.accepted,
        reply: describeResult(result),
      }));
    },
    quit: () => connection.quit(),
  };
}
