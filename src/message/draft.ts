/** A message as a program asks for it, checked: addresses, headers, text. */
import { domainToASCII } from "node:url";
import { AddressError, formatMailbox, parseMailbox } from "../smtp/address.ts";

/** What is wrong with a draft, and where. */
export class DraftError extends Error {
  override readonly name = "DraftError";
  /** Where in the draft, such as `to.0`. */
  readonly path: string;

  constructor(path: string, message: string) {
    super(message);
    this.path = path;
  }
}

/** An address with the name of its owner. */
export interface Address {
  readonly name?: string;
  /** Bare addr-spec; the domain in ASCII and lower case. */
  readonly address: string;
}

export interface Attachment {
  readonly content: Uint8Array;
  readonly filename?: string;
  /** Made from the file name where it is missing. */
  readonly contentType?: string;
  /** Content-ID without angle brackets, for `cid:` in the HTML. */
  readonly cid?: string;
}

/** A message to be composed. */
export interface Draft {
  readonly from: Address;
  readonly to: readonly Address[];
  readonly cc: readonly Address[];
  readonly bcc: readonly Address[];
  readonly replyTo: readonly Address[];
  readonly subject?: string;
  readonly text?: string;
  readonly html?: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
  readonly attachments: readonly Attachment[];
}

/** The forms in which an address may be given. */
export type AddressInput = string | { readonly email: string; readonly name?: string | undefined };

/**
 * Reads `user@example.com`, `<user@example.com>`, `Name <user@example.com>` or `{ email, name }`.
 * @throws {DraftError} at `path`
 */
export function parseAddress(input: AddressInput, path: string): Address {
  if (typeof input !== "string") {
    const address = bareAddress(oneLine(input.email, `${path}.email`).trim(), `${path}.email`);
    const name = oneLine(input.name ?? "", `${path}.name`).trim();
    return name === "" ? { address } : { name, address };
  }
  const text = oneLine(input, path).trim();
  const match = /^(?:("(?:[^"\\]|\\.)*")|([^<>"@,;]*))\s*<([^<>]*(?:"(?:[^"\\]|\\.)*"@[^<>]*)?)>$/.exec(text);
  if (!match) return { address: bareAddress(text, path) };
  const [, quoted, plain = "", inner = ""] = match;
  const name = quoted === undefined ? plain.trim() : quoted.slice(1, -1).replace(/\\(.)/g, "$1").trim();
  const address = bareAddress(inner, path);
  return name === "" ? { address } : { name, address };
}

/** Reads one address or a list of them. */
export function parseAddresses(input: AddressInput | readonly AddressInput[], path: string): Address[] {
  if (typeof input === "string" || !Array.isArray(input)) return [parseAddress(input as AddressInput, path)];
  return input.map((each: AddressInput, i) => parseAddress(each, `${path}.${i}`));
}

function bareAddress(text: string, path: string): string {
  try {
    const mailbox = parseMailbox(text, { utf8: true });
    if (mailbox.domain.startsWith("[")) return formatMailbox(mailbox);
    const domain = domainToASCII(mailbox.domain).toLowerCase();
    if (domain === "") throw new AddressError("the domain is no domain name");
    return formatMailbox({ localPart: mailbox.localPart, domain });
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw new DraftError(path, `"${text.slice(0, 320)}" is no address: ${error.message}`);
  }
}

/**
 * The addresses without those that were there before. The local part counts to the letter, as only its own domain
 * knows whether case matters.
 */
export function distinctAddresses(addresses: readonly Address[]): string[] {
  return [...new Set(addresses.map(({ address }) => address))];
}

/** Header fields that are made from the draft's own parts, or belong to the systems on the way. */
const RESERVED =
  /^(from|to|cc|bcc|subject|reply-to|mime-version|content-.*|received|return-path|delivered-to|resent-bcc)$/i;
const HEADERS_MAX = 32 * 1024;

/**
 * Checks further header fields; those with a blank value are left out.
 * @throws {DraftError} for a reserved or impossible name, and for line breaks in a value.
 */
export function checkHeaders(
  headers: readonly { readonly name: string; readonly value: string }[],
  path: string,
): { name: string; value: string }[] {
  const total = headers.reduce((sum, { name, value }) => sum + name.length + value.length + 4, 0);
  if (total > HEADERS_MAX) {
    throw new DraftError(path, `header fields have ${total} characters, at most ${HEADERS_MAX}`);
  }
  const once = new Set<string>();
  return headers.flatMap(({ name, value }) => {
    const where = `${path}.${name.slice(0, 76)}`;
    if (!/^[\x21-\x39\x3b-\x7e]{1,76}$/.test(name)) {
      throw new DraftError(where, "is no header field name (RFC 5322 §3.6.8)");
    }
    if (RESERVED.test(name)) {
      throw new DraftError(where, "is set from the other parts of the message, not as a header");
    }
    if (/^(date|message-id|sender|in-reply-to|references)$/i.test(name)) {
      if (once.has(name.toLowerCase())) throw new DraftError(where, "may occur only once (RFC 5322 §3.6)");
      once.add(name.toLowerCase());
    }
    const text = oneLine(value, where).trim();
    return text === "" ? [] : [{ name, value: text }];
  });
}

/**
 * Checks an attachment's names.
 * @throws {DraftError}
 */
export function checkAttachment(attachment: Attachment, path: string): Attachment {
  const { filename, contentType, cid } = attachment;
  if (filename !== undefined) oneLine(filename, `${path}.filename`);
  const type = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(\s*;\s*[\w!#$&^.+-]+=([\w!#$&^.+-]+|"[^"\\\r\n]*"))*$/;
  if (contentType !== undefined && !type.test(contentType)) {
    throw new DraftError(`${path}.contentType`, "is no media type such as image/png");
  }
  if (contentType !== undefined && /^multipart\//i.test(contentType)) {
    throw new DraftError(`${path}.contentType`, "must not be multipart");
  }
  if (cid !== undefined && !/^[\x21\x23-\x3b\x3d\x3f-\x7e]{1,200}$/.test(cid)) {
    throw new DraftError(
      `${path}.cid`,
      "is no Content-ID: expected up to 200 visible ASCII characters, no < > or quotes",
    );
  }
  return attachment;
}

/**
 * Returns `text` when it has no line break and no other control character but the tab: nothing that goes into a
 * header may start another field.
 * @throws {DraftError}
 */
export function oneLine(text: string, path: string): string {
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x08\x0a-\x1f\x7f\u0085\u2028\u2029]/.test(text)) {
    throw new DraftError(path, "must not contain line breaks or control characters");
  }
  return text;
}
