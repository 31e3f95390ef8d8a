/** What one SMTP session knows, as data. */
import type { NewRecipient } from "../queue/model.ts";
import type { MailParameters } from "../smtp/command.ts";

/** What a listener is for: mail exchange, or submission by users (RFC 6409). */
export type Role = "relay" | "submission";

/** Who is at the other end. */
export interface Client {
  /** IP address without zone. */
  readonly address: string;
  /** AUTH in the clear cannot be overheard. */
  readonly loopback: boolean;
  /** In `EPOXI_RELAY_NETWORKS`: may relay without AUTH, and is held to fewer limits. */
  readonly trusted: boolean;
}

/** Recipients so far, the newest first: adding one does not copy the rest. */
export interface RecipientList {
  readonly recipient: NewRecipient;
  readonly count: number;
  readonly earlier: RecipientList | undefined;
}

/** One MAIL … DATA unit (RFC 5321 §3.3). */
export interface Transaction {
  /** "" is the null reverse-path. */
  readonly reversePath: string;
  readonly parameters: MailParameters;
  readonly recipients: RecipientList | undefined;
  /** BDAT has begun: only BDAT, or giving up, may follow (RFC 3030 §2). */
  readonly chunking: boolean;
}

/** A connection-long dialog (RFC 5321 §3.1). */
export interface Session {
  readonly role: Role;
  readonly client: Client;
  readonly tls: boolean;
  /** Argument of EHLO or HELO. */
  readonly helo: string | undefined;
  /** EHLO was given, not HELO. */
  readonly extended: boolean;
  readonly user: string | undefined;
  readonly transaction: Transaction | undefined;
  /** Refused commands since the last accepted message. */
  readonly errors: number;
  /** Commands since the last accepted message that bring no mail. */
  readonly idle: number;
}

/** A session at its greeting; also after STARTTLS, when all that was said in the clear is forgotten (RFC 3207 §4.2). */
export function newSession(role: Role, client: Client, tls: boolean): Session {
  return {
    role,
    client,
    tls,
    helo: undefined,
    extended: false,
    user: undefined,
    transaction: undefined,
    errors: 0,
    idle: 0,
  };
}

/** Recipients in the order given, each address once. */
export function recipientsOf(list: RecipientList | undefined): NewRecipient[] {
  const recipients = new Map<string, NewRecipient>();
  const inOrder: NewRecipient[] = [];
  for (let each = list; each; each = each.earlier) inOrder.push(each.recipient);
  // The first RCPT of an address decides its NOTIFY.
  for (const each of inOrder.reverse()) if (!recipients.has(each.address)) recipients.set(each.address, each);
  return [...recipients.values()];
}

/** `with` keyword of the trace field (RFC 3848, RFC 6531 §4.3). */
export function protocolOf({ extended, tls, user, transaction }: Session): string {
  if (!extended) return "SMTP";
  const base = transaction?.parameters.smtpUtf8 ? "UTF8SMTP" : "ESMTP";
  return `${base}${tls ? "S" : ""}${user === undefined ? "" : "A"}`;
}
