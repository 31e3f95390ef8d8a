// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** Mailboxes and paths: RFC 5321 §4.1.2 and §4.1.3, with RFC 6531 §3.3 where UTF-8 is allowed. */
import { isIPv4, isIPv6 } from "node:net";

/** A parsed mailbox. */
export interface Mailbox {
  /** The local part's value, without quoting; its letter case is kept (RFC 5321 §2.4). */
  readonly localPart: string;
  /** Domain as given, or an address literal with its brackets; "" for the bare `postmaster`. */
  readonly domain: string;
}

/** Whether addresses beyond ASCII are allowed (SMTPUTF8). */
export interface AddressOptions {
  readonly utf8?: boolean;
}

/** Thrown for what is no address; the message says what was expected. */
export class AddressError extends Error {
  override readonly name = "AddressError";
}

/** RFC 5321 §4.5.3.1.1 and §4.5.3.1.2, in octets. */
const MAX_LOCAL_PART = 64;
const MAX_DOMAIN = 255;
const MAX_PATH = 256;

const ATOM = /^[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*$/;
const ATOM_UTF8 =
  /^(?:[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]|[^\x00-\x7f])+(?:\.(?:[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]|[^\x00-\x7f])+)*$/;
const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/;
const LABEL_UTF8 =
  /^(?:[A-Za-z0-9]|[^\x00-\x7f])(?:(?:[A-Za-z0-9-]|[^\x00-\x7f])*(?:[A-Za-z0-9]|[^\x00-\x7f]))?$/;

/**
 * Parses `local-part@domain`.
 * @throws {AddressError}
 */
export function parseMailbox(text: string, options: AddressOptions = {}): Mailbox {
  if (!options.utf8 && !isAscii(text)) {
    throw new AddressError("address has characters beyond ASCII, which needs SMTPUTF8");
  }
  const { localPart, rest } = text.startsWith('"') ? quotedLocalPart(text) : dotString(text, options);
  if (octets(localPart) > MAX_LOCAL_PART) {
    throw new AddressError(`local part is longer than ${MAX_LOCAL_PART} octets`);
  }
  if (!rest.startsWith("@")) throw new AddressError('expected "@" and a domain after the local part');
  return { localPart, domain: checkDomain(rest.slice(1), options) };
}

/**
 * Checks a domain or an address literal and returns it.
 * @throws {AddressError}
 */
export function checkDomain(text: string, options: AddressOptions = {}): string {
  if (text.startsWith("[")) {
    checkLiteral(text);
    return text;
  }
  if (octets(text) > MAX_DOMAIN) throw new AddressError(`domain is longer than ${MAX_DOMAIN} octets`);
  const pattern = options.utf8 ? LABEL_UTF8 : LABEL;
  for (const label of text.split(".")) {
    if (!pattern.test(label)) {
      throw new AddressError(
        label === "" ? "domain has an empty label" : `"${printable(label)}" is no domain label`,
      );
    }
    if (octets(label) > 63 && isAscii(label)) throw new AddressError("domain label is longer than 63 octets");
  }
  return text;
}

/** Writes a mailbox, quoting the local part where its characters want it. */
export function formatMailbox({ localPart, domain }: Mailbox): string {
  const local = ATOM_UTF8.test(localPart) ? localPart : `"${localPart.replace(/["\\]/g, "\\$&")}"`;
  return domain === "" ? local : `${local}@${domain}`;
}

/**
 * Parses a reverse-path with its angle brackets; `<>` gives undefined, the null reverse-path. A source route is
 * read and ignored (RFC 5321 §4.1.1.3).
 * @throws {AddressError}
 */
export function parseReversePath(text: string, options: AddressOptions = {}): Mailbox | undefined {
  const inner = insidePath(text);
  return inner === "" ? undefined : parseMailbox(withoutRoute(inner, options), options);
}

/**
 * Parses a forward-path with its angle brackets. `<postmaster>` alone, in any case, has no domain.
 * @throws {AddressError}
 */
export function parseForwardPath(text: string, options: AddressOptions = {}): Mailbox {
  const inner = insidePath(text);
  if (inner === "") throw new AddressError("the null path is no recipient");
  if (inner.toLowerCase() === "postmaster") return { localPart: inner, domain: "" };
  return parseMailbox(withoutRoute(inner, options), options);
}

/** Domain of a bare address, in lower case; "" where there is none. */
export function domainOf(address: string): string {
  const at = address.lastIndexOf("@");
  return at < 0 ? "" : address.slice(at + 1).toLowerCase();
}

/** Whether text has no character beyond ASCII. */
export function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

function insidePath(text: string): string {
  if (!text.startsWith("<") || !text.endsWith(">") || text.length < 2) {
    throw new AddressError("expected an address in angle brackets");
  }
  if (octets(text) > MAX_PATH) throw new AddressError(`path is longer than ${MAX_PATH} octets`);
  return text.slice(1, -1);
}

function withoutRoute(text: string, options: AddressOptions): string {
  if (!text.startsWith("@")) return text;
  // Colons inside an address literal do not end the route.
  const route = /^(?:\[[^\]]*\]|[^:\[\]])*:/.exec(text)?.[0];
  if (!route) throw new AddressError('expected ":" after the source route');
  for (const hop of route.slice(0, -1).split(",")) {
    if (!hop.startsWith("@")) throw new AddressError('expected "@" before each domain of the source route');
    checkDomain(hop.slice(1), options);
  }
  return text.slice(route.length);
}

function dotString(text: string, options: AddressOptions): { localPart: string; rest: string } {
  const at = text.indexOf("@");
  const localPart = at < 0 ? text : text.slice(0, at);
  if (!(options.utf8 ? ATOM_UTF8 : ATOM).test(localPart)) {
    throw new AddressError(
      localPart === ""
        ? "local part is empty"
        : `"${printable(localPart)}" is no local part; quote it where needed`,
    );
  }
  return { localPart, rest: at < 0 ? "" : text.slice(at) };
}

function quotedLocalPart(text: string): { localPart: string; rest: string } {
  let localPart = "";
  for (let i = 1; i < text.length; i++) {
    const char = text[i]!;
    if (char === '"') return { localPart, rest: text.slice(i + 1) };
    const value = char === "\\" ? text[++i] ?? "" : char;
    if (value === "" || value < " " || value === "\x7f") break;
    localPart += value;
  }
  throw new AddressError("quoted local part is not closed, or has control characters");
}

function checkLiteral(text: string): void {
  const inner = /^\[([^\[\]\\]*)\]$/.exec(text)?.[1];
  if (inner !== undefined) {
    if (isIPv4(inner)) return;
    const ipv6 = /^IPv6:(.*)$/i.exec(inner)?.[1];
    if (ipv6 !== undefined) {
      if (isIPv6(ipv6) && !ipv6.includes("%")) return;
    } else if (/^[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+$/.test(inner)) return;
  }
  throw new AddressError(`"${printable(text)}" is no address literal`);
}

function octets(text: string): number {
  return isAscii(text) ? text.length : new TextEncoder().encode(text).length;
}

/** What a reply may repeat of a hostile input. */
function printable(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
}
