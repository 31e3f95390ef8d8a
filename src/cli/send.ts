/** `epoxi send`: a test client. */
import { Command, Option } from "commander";
import type { HostPort } from "../config/config.ts";
import { type CliDeps, CommandFailure, type RecipientAnswer, type SubmitTarget } from "./deps.ts";
import { type MailOptions, type MailSource, prepareMail } from "./send_mail.ts";
import { printable } from "./table.ts";
import { durationValue, hostPortValue, integerValue, repeated } from "./values.ts";

interface SendOptions extends MailOptions {
  readonly server: HostPort;
  readonly tls: SubmitTarget["tls"];
  readonly authFile?: string;
  readonly helo?: string;
  readonly timeout: number;
  readonly count: number;
  readonly concurrency: number;
  readonly quiet?: true;
  readonly verbose?: true;
}

/** `epoxi send` */
export function sendCommand(deps: CliDeps): Command {
  const command = new Command("send")
    .description("send mail to an SMTP server and show what it answers for each recipient")
    .addOption(
      new Option("-s, --server <host:port>", "where to").argParser(hostPortValue(false))
        .default({ host: "127.0.0.1", port: 2525 }, "127.0.0.1:2525"),
    )
    .option("-f, --from <address>", "sender; <> for the null reverse-path (default: sender@<this machine>)")
    .requiredOption("-t, --to <address>", "recipient; repeat it for more", repeated(String));
  messageOptions(command);
  sessionOptions(command);
  return command
    .addHelpText(
      "after",
      `
Examples:
  epoxi send --to someone@example.com
  epoxi send --to a@example.com --to b@example.com --subject Hello --body 'How are you?'
  date | epoxi send --to someone@example.com --body - --attach report.pdf
  epoxi send --server mx.example.com:587 --tls require --auth-file ~/.smtp-login --to someone@example.com
  epoxi send --file message.eml --from me@example.com --to someone@example.com --verbose
  epoxi send --to load@example.com --count 10000 --concurrency 20
`,
    )
    .action((options: SendOptions) => send(deps, options));
}

function messageOptions(command: Command): void {
  command
    .option("--subject <text>", "subject (default: Test message)")
    .option("--body <text>", "plain text; - reads standard input")
    .option("--html <text>", "HTML, beside the plain text where both are given")
    .option("--header <name: value>", "a further header field; repeat it for more", repeated(String))
    .option("--attach <file>", "a file to attach; repeat it for more", repeated(String))
    .option(
      "--file <file>",
      "a whole message to send as it is (line ends become CRLF); - reads standard input",
    );
}

function sessionOptions(command: Command): void {
  command
    .addOption(
      new Option("--tls <policy>", "STARTTLS: never, if it is offered, required; or TLS from the first byte")
        .choices(["never", "opportunistic", "require", "implicit"]).default("opportunistic"),
    )
    .option(
      "--auth-file <file>",
      "file that holds user:password (kept off the command line, where others see it)",
    )
    .option("--helo <name>", "name for EHLO (default: this machine's)")
    .addOption(
      new Option("--timeout <duration>", "wait for each answer").argParser(durationValue).default(
        60_000,
        "1m",
      ),
    )
    .option("--count <n>", "send that many messages and sum up", integerValue(1, 100_000_000), 1)
    .option("--concurrency <n>", "connections at a time, for --count", integerValue(1, 10_000), 1)
    .option("-q, --quiet", "print failures only")
    .option("-v, --verbose", "print the dialog (credentials masked)");
}

async function send(deps: CliDeps, options: SendOptions): Promise<void> {
  const hostname = options.helo ?? deps.environment.hostname;
  // A name without a dot would make addresses and Message-IDs that servers refuse.
  const mails = await prepareMail(
    deps,
    options,
    hostname.includes(".") ? hostname : `${hostname}.localdomain`,
  );
  const target: SubmitTarget = {
    ...options.server,
    hostname,
    tls: options.tls,
    timeout: options.timeout,
    ...(options.authFile === undefined ? {} : { auth: readAuth(deps, options.authFile) }),
    ...(options.verbose
      ? { transcript: (side, line) => deps.write(`${side}: ${printable(line)}\n`) } satisfies Partial<
        SubmitTarget
      >
      : {}),
  };
  if (options.count === 1) await sendOne(deps, options, target, mails);
  else await sendMany(deps, options, target, mails);
}

function readAuth(deps: CliDeps, path: string): { user: string; password: string } {
  let text: string;
  try {
    text = deps.environment.readFile(path).replace(/\r?\n$/, "");
  } catch (error) {
    throw new CommandFailure(`--auth-file ${path} cannot be read: ${messageOf(error)}`);
  }
  const colon = text.indexOf(":");
  if (colon < 1) throw new CommandFailure(`--auth-file ${path}: expected user:password`);
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

async function sendOne(
  deps: CliDeps,
  { quiet }: SendOptions,
  target: SubmitTarget,
  mails: MailSource,
): Promise<void> {
  const connection = await connect(deps, target);
  let answers: readonly RecipientAnswer[];
  try {
    answers = await connection.send(mails(0));
  } catch (error) {
    throw new CommandFailure(`${place(target)}: ${messageOf(error)}`);
  } finally {
    await connection.quit();
  }
  for (const { recipient, accepted, reply } of answers) {
    if (accepted && !quiet) deps.write(printable(`${recipient}: ${reply}`) + "\n");
    if (!accepted) deps.writeError(printable(`${recipient}: ${reply}`) + "\n");
  }
  const refused = answers.filter(({ accepted }) => !accepted).length;
  if (refused > 0) throw new CommandFailure(`${refused} of ${answers.length} recipients refused`);
}

/** What came of many messages. */
interface Tally {
  sent: number;
  failed: number;
  readonly milliseconds: number[];
  /** How often each failure was told, at most {@linkcode REASONS} different ones. */
  readonly reasons: Map<string, number>;
}

const REASONS = 20;
/** A connection that can't be opened this often in a row is given up. */
const CONNECT_TRIES = 3;

async function sendMany(
  deps: CliDeps,
  { count, concurrency, quiet }: SendOptions,
  target: SubmitTarget,
  mails: MailSource,
): Promise<void> {
  const tally: Tally = { sent: 0, failed: 0, milliseconds: [], reasons: new Map() };
  let next = 0;
  const numbers = { take: () => next < count ? next++ : undefined };
  const start = performance.now();
  const workers = Array.from({ length: Math.min(concurrency, count) }, () => {
    return sendSome(deps, target, mails, numbers, tally);
  });
  await Promise.all(workers);
  const seconds = (performance.now() - start) / 1000;
  const missed = count - tally.sent - tally.failed;
  if (!quiet) {
    const sorted = tally.milliseconds.sort((a, b) => a - b);
    const at = (share: number) => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(1);
    deps.write(
      `${tally.sent} of ${count} messages accepted in ${seconds.toFixed(2)} s: ${
        (tally.sent / seconds).toFixed(0)
      }/s, latency p50 ${at(0.5)} ms, p99 ${at(0.99)} ms\n`,
    );
  }
  for (const [reason, times] of tally.reasons) deps.writeError(printable(`${times} × ${reason}`) + "\n");
  if (tally.sent < count) {
    throw new CommandFailure(`${tally.failed + missed} of ${count} messages not accepted`);
  }
}

async function sendSome(
  deps: CliDeps,
  target: SubmitTarget,
  mails: MailSource,
  numbers: { take(): number | undefined },
  tally: Tally,
): Promise<void> {
  let connection: Awaited<ReturnType<CliDeps["connect"]>> | undefined;
  let refusals = 0;
  for (let n = numbers.take(); n !== undefined && refusals < CONNECT_TRIES; n = numbers.take()) {
    const start = performance.now();
    try {
      connection ??= await connect(deps, target);
      refusals = 0;
      const answers = await connection.send(mails(n));
      const refused = answers.find(({ accepted }) => !accepted);
      if (refused) throw new CommandFailure(refused.reply);
      tally.sent++;
      tally.milliseconds.push(performance.now() - start);
    } catch (error) {
      tally.failed++;
      const reason = messageOf(error);
      if (tally.reasons.has(reason) || tally.reasons.size < REASONS) {
        tally.reasons.set(reason, (tally.reasons.get(reason) ?? 0) + 1);
      }
      if (connection === undefined) refusals++;
      // A refused message leaves the connection usable; anything else may not have.
      if (!(error instanceof CommandFailure)) connection = undefined;
    }
  }
  await connection?.quit();
}

async function connect(deps: CliDeps, target: SubmitTarget) {
  try {
    return await deps.connect(target);
  } catch (error) {
    throw new CommandFailure(`${place(target)}: ${messageOf(error)}`);
  }
}

function place({ host, port }: SubmitTarget): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
