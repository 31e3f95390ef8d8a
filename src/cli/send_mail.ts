/** What `epoxi send` sends: composed from options, or a raw message. */
import {
  type Address,
  checkAttachment,
  checkHeaders,
  type Draft,
  DraftError,
  parseAddress,
} from "../message/draft.ts";
import { bodyOf, renderMessage } from "../message/render.ts";
import { isAscii } from "../smtp/address.ts";
import { type CliDeps, CommandFailure, type SubmitMail, UsageError } from "./deps.ts";

/** The options that make up the message. */
export interface MailOptions {
  readonly from?: string;
  readonly to: readonly string[];
  readonly subject?: string;
  readonly body?: string;
  readonly html?: string;
  readonly file?: string;
  readonly header?: readonly string[];
  readonly attach?: readonly string[];
}

/** Makes the mail with the number `n`, from 0; each has its own Message-ID where we compose it. */
export type MailSource = (n: number) => SubmitMail;

const DEFAULT_BODY = "This is a test message, sent by epoxi send.\n";

/**
 * Reads and composes once what is then sent any number of times.
 * @throws {UsageError} for options that contradict each other or are no addresses, and so on.
 * @throws {CommandFailure} where a file can't be read.
 */
export async function prepareMail(
  deps: CliDeps,
  options: MailOptions,
  hostname: string,
): Promise<MailSource> {
  const from = options.from === "<>" ? undefined : address(options.from ?? `sender@${hostname}`, "--from");
  const to = options.to.map((text) => address(text, "--to"));
  const envelope = {
    reversePath: from?.address ?? "",
    recipients: [...new Set(to.map((each) => each.address))],
  };
  if (options.file !== undefined) {
    const given = ["subject", "body", "html", "header", "attach"].filter((name) =>
      options[name as keyof MailOptions] !== undefined
    );
    if (given.length > 0) {
      throw new UsageError(`send: --file sends a message as it is, so --${given[0]} can't be given with it`);
    }
    const mail = withFlags({ ...envelope, content: crlf(await read(deps, options.file, "--file")) });
    return () => mail;
  }
  // A composed message needs an author, also where its reverse-path is null.
  const author = from ?? address(`mailer-daemon@${hostname}`, "--from");
  return await composed(deps, options, { author, to, hostname, envelope });
}

async function composed(
  deps: CliDeps,
  options: MailOptions,
  parts: {
    author: Address;
    to: Address[];
    hostname: string;
    envelope: { reversePath: string; recipients: string[] };
  },
): Promise<MailSource> {
  const { author, to, hostname, envelope } = parts;
  const text = options.body === "-" ? new TextDecoder().decode(await deps.readInput()) : options.body;
  const draft: Draft = {
    from: author,
    to,
    cc: [],
    bcc: [],
    replyTo: [],
    subject: options.subject ?? "Test message",
    ...(text !== undefined || options.html === undefined ? { text: text ?? DEFAULT_BODY } : {}),
    ...(options.html === undefined ? {} : { html: options.html }),
    headers: usage(() => checkHeaders((options.header ?? []).map(headerField), "--header")),
    attachments: await Promise.all((options.attach ?? []).map(async (path) => {
      const filename = path.slice(path.lastIndexOf("/") + 1);
      const content = await read(deps, path, "--attach");
      return usage(() => checkAttachment({ content, filename }, "--attach"));
    })),
  };
  const run = crypto.randomUUID().replaceAll("-", "");
  const uniqueId = (n: number) => `${run}.${String(n).padStart(9, "0")}`;
  const { content, messageId } = await renderMessage(draft, {
    hostname,
    date: Date.now(),
    uniqueId: uniqueId(0),
  })
    .catch((error) => {
      throw error instanceof DraftError ? new UsageError(`send: ${error.path} ${error.message}`) : error;
    });
  const first = withFlags({ ...envelope, content });
  const at = indexOf(content, new TextEncoder().encode(uniqueId(0)));
  if (!messageId.startsWith(uniqueId(0)) || at < 0) return () => first;
  return (n) => {
    if (n === 0) return first;
    const copy = new Uint8Array(content); // slice() of a node Buffer would share its bytes
    copy.set(new TextEncoder().encode(uniqueId(n)), at);
    return { ...first, content: copy };
  };
}

function withFlags(mail: Omit<SubmitMail, "eightBit" | "smtpUtf8">): SubmitMail {
  const { body, smtpUtf8 } = bodyOf(mail.content);
  const addresses = [mail.reversePath, ...mail.recipients];
  return { ...mail, eightBit: body !== "7BIT", smtpUtf8: smtpUtf8 || !addresses.every(isAscii) };
}

function address(text: string, option: string): Address {
  return usage(() => parseAddress(text, option));
}

function headerField(text: string): { name: string; value: string } {
  const colon = text.indexOf(":");
  if (colon < 1) throw new UsageError(`send: --header "${text}": expected "Name: value"`);
  return { name: text.slice(0, colon).trim(), value: text.slice(colon + 1) };
}

function usage<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof DraftError) throw new UsageError(`send: ${error.path} ${error.message}`);
    throw error;
  }
}

async function read(deps: CliDeps, path: string, option: string): Promise<Uint8Array> {
  try {
    return path === "-" ? await deps.readInput() : await deps.readFile(path);
  } catch (error) {
    throw new CommandFailure(
      `${option} ${path} cannot be read: ${error instanceof Error ? error.message : error}`,
    );
  }
}

/** Line ends as SMTP wants them: every LF, CR and CRLF becomes CRLF. */
export function crlf(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length * 2);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte !== 13 && byte !== 10) {
      out[length++] = byte;
      continue;
    }
    if (byte === 13 && bytes[i + 1] === 10) i++;
    out[length++] = 13;
    out[length++] = 10;
  }
  return out.slice(0, length);
}

function indexOf(bytes: Uint8Array, part: Uint8Array): number {
  for (let i = bytes.indexOf(part[0]!); i >= 0; i = bytes.indexOf(part[0]!, i + 1)) {
    if (part.every((byte, j) => bytes[i + j] === byte)) return i;
  }
  return -1;
}
