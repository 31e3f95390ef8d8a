/** `epoxi sink`: a test receiver. */
import { Command, Option } from "commander";
import type { HostPort } from "../config/config.ts";
import { formatHostPort } from "../config/kinds.ts";
import { type ByteConn, CertificateStore, startTlsServer } from "../platform/tls_server.ts";
import { type CliDeps, CommandFailure, UsageError } from "./deps.ts";
import { dumpInto } from "./sink_dump.ts";
import { parseRules, RuleError, type RuleTexts, type SinkRules, STAGES } from "./sink_rules.ts";
import { type SinkCounts, SinkServer } from "./sink_server.ts";
import { hostPortValue, integerValue, repeated } from "./values.ts";

interface SinkCommandOptions extends RuleTexts {
  readonly listen: HostPort;
  readonly hostname: string;
  readonly dump?: string;
  readonly tls?: string;
  readonly count?: number;
  readonly quiet?: true;
}

/** `epoxi sink` */
export function sinkCommand(deps: CliDeps): Command {
  return new Command("sink")
    .description("receive mail for tests: count it, answer as scripted, deliver nothing")
    .addOption(
      new Option("-l, --listen <host:port>", "address to listen on").argParser(hostPortValue(true))
        .default({ host: "127.0.0.1", port: 2526 }, "127.0.0.1:2526"),
    )
    .option("--hostname <name>", "name in the greeting", "sink.localhost")
    .option(
      "--reply <stage=code[:probability]>",
      "answer with this code; repeat it for more",
      repeated(String),
    )
    .option("--delay <stage=duration>", "answer that much later; repeat it for more", repeated(String))
    .option("--drop <stage[:probability]>", "close the connection instead of an answer", repeated(String))
    .option("--dump <folder>", "keep messages: <n>.eml as it came, <n>.json with its envelope")
    .option("--tls <cert,key>", "offer STARTTLS with these PEM files")
    .option("--count <n>", "end after that many messages", integerValue(1, 1_000_000_000))
    .option("-q, --quiet", "print totals at the end only")
    .addHelpText(
      "after",
      `
Stages: ${STAGES.join(", ")} (the end of the content).
Prints a line each second in which something happened, and totals at the end (Ctrl-C).

Examples:
  epoxi sink
  epoxi sink --listen 127.0.0.1:2600 --dump ./received
  epoxi sink --reply rcpt=450:0.1 --reply rcpt=550:0.02     a tenth is deferred, one in fifty refused
  epoxi sink --delay dot=2s --drop dot:0.01                 slow, and sometimes in doubt
  epoxi sink --delay greeting=1h                            a tarpit
`,
    )
    .action((options: SinkCommandOptions) => sink(deps, options));
}

async function sink(deps: CliDeps, options: SinkCommandOptions): Promise<void> {
  const startTls = options.tls === undefined ? undefined : tlsFrom(options.tls);
  const receive = options.dump === undefined ? undefined : await dumpInto(options.dump).catch((error) => {
    throw new CommandFailure(`--dump ${options.dump}: ${error instanceof Error ? error.message : error}`);
  });
  const server = listen({
    listen: options.listen,
    hostname: options.hostname,
    rules: rulesOf(options),
    ...(receive ? { receive } : {}),
    ...(startTls ? { startTls } : {}),
  });
  const interrupted = deps.interrupted();
  deps.write(`listening on ${formatHostPort(server.address)}\n`);
  const start = performance.now();
  try {
    await watch(deps, server.counts, options, interrupted);
  } finally {
    await server.close();
  }
  deps.write(totals(server.counts, (performance.now() - start) / 1000));
  if (options.count !== undefined && server.counts.messages < options.count) {
    throw new CommandFailure(`interrupted after ${server.counts.messages} of ${options.count} messages`);
  }
}

function tlsFrom(text: string): (conn: ByteConn) => Promise<ByteConn> {
  const [cert, key, ...more] = text.split(",");
  if (!cert || !key || more.length > 0) {
    throw new UsageError(`sink: --tls ${text}: expected two files, cert,key`);
  }
  try {
    const { context } = CertificateStore.open(cert, key);
    return (conn) => startTlsServer(conn, context);
  } catch (error) {
    throw new CommandFailure(`--tls: ${error instanceof Error ? error.message : error}`);
  }
}

function rulesOf(options: RuleTexts): SinkRules {
  try {
    return parseRules(options);
  } catch (error) {
    if (error instanceof RuleError) throw new UsageError(`sink: ${error.message}`);
    throw error;
  }
}

function listen(options: Parameters<typeof SinkServer.start>[0]): SinkServer {
  try {
    return SinkServer.start(options);
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse
      ? "another program listens there"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new CommandFailure(`--listen ${formatHostPort(options.listen)}: ${why}`);
  }
}

/** How often counts are looked at, in milliseconds. */
const LOOK = 100;

/** Prints a line a second; resolves when interrupted or when enough has come. */
async function watch(
  deps: CliDeps,
  counts: SinkCounts,
  { count, quiet }: SinkCommandOptions,
  interrupted: AbortSignal,
): Promise<void> {
  let before = { ...counts };
  let looks = 0;
  while (!interrupted.aborted && (count === undefined || counts.messages < count)) {
    await pause(LOOK, interrupted);
    if (++looks % (1000 / LOOK) !== 0) continue;
    const changed = (Object.keys(before) as (keyof SinkCounts)[]).some((name) =>
      before[name] !== counts[name]
    );
    if (changed && !quiet) deps.write(second(before, counts));
    before = { ...counts };
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

function second(before: SinkCounts, now: SinkCounts): string {
  const time = new Date().toISOString().slice(11, 19);
  return `${time}  ${now.messages - before.messages} messages/s, ${
    now.recipients - before.recipients
  } recipients/s, ` +
    `${now.open} connections, ${now.refused - before.refused} refused, ${now.messages} messages so far\n`;
}

function totals(counts: SinkCounts, seconds: number): string {
  const { messages, recipients, bytes, connections, refused, dropped } = counts;
  return `${messages} messages to ${recipients} recipients, ${bytes} bytes, ${connections} connections, ` +
    `${refused} refusals, ${dropped} connections dropped, in ${seconds.toFixed(1)} s\n`;
}
