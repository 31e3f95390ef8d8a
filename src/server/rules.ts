/** What a server allows: the part of its settings that `step` asks. */
import { domainToASCII } from "node:url";
import type { Config } from "../config/config.ts";
import { domainOf, isAscii } from "../smtp/address.ts";
import { type Reply, reply } from "../smtp/reply.ts";
import type { Session } from "./session.ts";

/** Answers to what `step` asks; the same question gets the same answer, but for `available`. */
export interface Rules {
  readonly hostname: string;
  readonly maxMessageSize: number;
  readonly maxRecipients: number;
  /** Errors of a session before it is ended. */
  readonly maxErrors: number;
  /** STARTTLS can be offered. */
  readonly startTls: boolean;
  /** SASL mechanisms there are users for, in upper case; empty without users. */
  readonly mechanisms: readonly string[];
  /** Whether the queue takes mail now. */
  available(): boolean;
  /** The recipient's address to queue, or why it is refused. */
  recipient(session: Session, forwardPath: string): string | Reply;
}

/** The settings that decide about recipients. */
export type RecipientSettings = Pick<Config, "mode" | "hostname" | "localDomains" | "mailboxes">;

const RELAYING_DENIED = reply(
  550,
  "5.7.1",
  "Relaying denied: log in first, or send to a domain that is ours",
);
const NO_MAILBOX = reply(550, "5.1.1", "No such mailbox here");
const NO_POSTMASTER = reply(550, "5.1.1", "No mail is delivered here, so there is no postmaster mailbox");

/**
 * Decides about recipients. Domains of ours take their mailboxes and always `postmaster`; elsewhere only users and
 * trusted networks may send. A bare `<postmaster>` (RFC 5321 §4.5.1) is the first local domain's; a host without
 * local domains has none, but a development server captures its mail under our hostname.
 */
export function createRecipientRule(settings: RecipientSettings): Rules["recipient"] {
  const domains = new Set(settings.localDomains.map(asciiDomain));
  const mailboxes = new Set(settings.mailboxes.map(mailboxKey));
  const postmasterDomain = settings.localDomains[0] ??
    (settings.mode === "dev" ? settings.hostname : undefined);
  return (session, forwardPath) => {
    const domain = domainOf(forwardPath);
    if (domain === "") {
      return postmasterDomain === undefined ? NO_POSTMASTER : `${forwardPath}@${postmasterDomain}`;
    }
    if (domains.has(asciiDomain(domain))) {
      const key = mailboxKey(forwardPath);
      const known = mailboxes.size === 0 || mailboxes.has(key) || key.startsWith("postmaster@");
      return known ? forwardPath : NO_MAILBOX;
    }
    return session.user !== undefined || session.client.trusted ? forwardPath : RELAYING_DENIED;
  };
}

/** Mailboxes of our own are told apart without regard to letter case. */
function mailboxKey(address: string): string {
  const at = address.lastIndexOf("@");
  return `${address.slice(0, at).toLowerCase()}@${asciiDomain(address.slice(at + 1))}`;
}

function asciiDomain(domain: string): string {
  const lower = domain.toLowerCase();
  return isAscii(lower) ? lower : domainToASCII(lower) || lower;
}
