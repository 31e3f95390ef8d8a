/** The session as a pure function: no socket, clock or store in here. */
import type { NewRecipient } from "../queue/model.ts";
import type { Command } from "../smtp/command.ts";
import { type Reply, reply } from "../smtp/reply.ts";
import type { Rules } from "./rules.ts";
import type { Session, Transaction } from "./session.ts";
import { ehloKeywords, helpOn, MAX_IDLE, mayAuth, VERBS } from "./verbs.ts";

/** What the connection has to do after a step. */
export type Effect =
  /** Answer 354 and read content up to CRLF.CRLF. */
  | { readonly kind: "data" }
  /** Read a chunk of content. */
  | { readonly kind: "chunk"; readonly size: number; readonly last: boolean }
  /** Read a chunk and forget it, then send the reply. */
  | { readonly kind: "drain"; readonly size: number }
  | { readonly kind: "auth"; readonly mechanism: string; readonly initialResponse: string | undefined }
  /** Send the reply, then make the handshake. */
  | { readonly kind: "startTls" }
  /** Send the reply, then close. */
  | { readonly kind: "close" };

/** Outcome of one command. */
export interface Step {
  readonly session: Session;
  /** Absent where the effect finds the reply. */
  readonly reply?: Reply;
  readonly effect?: Effect;
}

type Mail = Extract<Command, { verb: "MAIL" }>;
type Rcpt = Extract<Command, { verb: "RCPT" }>;

const OK = reply(250, "2.0.0", "OK");
const FLUSHED = reply(250, "2.0.0", "OK, nothing is pending");
const SENDER_OK = reply(250, "2.1.0", "Sender OK");
const RECIPIENT_OK = reply(250, "2.1.5", "Recipient OK");
const GREET_FIRST = reply(503, "5.5.1", "Send EHLO or HELO first");
const NO_TRANSACTION = reply(503, "5.5.1", "Send MAIL first");
const IN_TRANSACTION = reply(503, "5.5.1", "A transaction is open: finish it, or send RSET");
const NO_RECIPIENTS = reply(554, "5.5.1", "No valid recipients");
const LOGIN_FIRST = reply(530, "5.7.0", "Authentication required");
const TLS_FIRST = reply(530, "5.7.0", "Send STARTTLS first, then log in");
const NOT_OFFERED = reply(502, "5.5.1", "Command not implemented");
const AUTH_IN_CLEAR = reply(538, "5.7.11", "Encryption required: send STARTTLS first");
const MECHANISM_UNKNOWN = reply(504, "5.5.4", "Mechanism not known");
const ALREADY_IN = reply(503, "5.5.1", "Already logged in");
const CHUNKING = reply(503, "5.5.1", "BDAT has begun: only BDAT or RSET may follow");
const BINARY_NEEDS_BDAT = reply(503, "5.5.1", "BODY=BINARYMIME needs BDAT");
const START_TLS = reply(220, "2.0.0", "Ready to start TLS");
const CANNOT_VERIFY = reply(252, "2.5.2", "Not verified, but mail to it will be tried");
const TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients: send the rest in another transaction");
const TOO_LARGE = reply(552, "5.3.4", "Message is too large");
const NO_ROOM = reply(452, "4.3.1", "Mail cannot be accepted just now, try again later");
const REQUIRETLS_NEEDS_TLS = reply(530, "5.7.10", "REQUIRETLS is for TLS only: send STARTTLS first");
const TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors, closing the connection");

/** One command on a session. */
export function step(session: Session, command: Command, rules: Rules): Step {
  const refusal = outOfOrder(session, command, rules);
  const done = refusal === undefined
    ? perform(session, command, rules)
    : { session, reply: refusal, ...drainOf(command) };
  const idle = VERBS[command.verb].idle ? done.session.idle + 1 : done.session.idle;
  const counted = idle === done.session.idle ? done : { ...done, session: { ...done.session, idle } };
  const error = (done.reply !== undefined && done.reply.code >= 500) || idle > MAX_IDLE;
  return error ? countError(counted, rules) : counted;
}

/** A line that is no command, with the reply it gets. */
export function refuse(session: Session, refusal: Reply, rules: Rules): Step {
  return countError({ session, reply: refusal }, rules);
}

/** The session after its content was answered. Only an accepted message wipes the slate of errors clean. */
export function finish(session: Session, answer: Reply, rules: Rules): Step {
  const idle = { ...session, transaction: undefined };
  if (answer.code < 300) return { session: { ...idle, errors: 0, idle: 0 }, reply: answer };
  const done = { session: idle, reply: answer };
  return answer.code >= 500 ? countError(done, rules) : done;
}

function countError(done: Step, rules: Rules): Step {
  const errors = done.session.errors + 1;
  const session = { ...done.session, errors };
  if (errors < rules.maxErrors) return { ...done, session };
  return { session, reply: TOO_MANY_ERRORS, effect: { kind: "close" } };
}

/** Why the command may not come now; undefined when it may. */
function outOfOrder(session: Session, command: Command, rules: Rules): Reply | undefined {
  const { verb } = command;
  const rule = VERBS[verb];
  const { transaction } = session;
  if (rule.offered && !rule.offered(session, rules)) return NOT_OFFERED;
  if (rule.needs !== undefined && session.helo === undefined) return GREET_FIRST;
  if (rule.mail && session.role === "submission" && session.user === undefined) {
    return session.tls || session.client.loopback || !rules.startTls ? LOGIN_FIRST : TLS_FIRST;
  }
  if (transaction?.chunking && rule.needs !== undefined && verb !== "BDAT") return CHUNKING;
  if (rule.needs === "no transaction" && transaction) return IN_TRANSACTION;
  if (rule.needs === "transaction" || rule.needs === "recipients") {
    if (!transaction) return NO_TRANSACTION;
    if (rule.needs === "recipients" && !transaction.recipients) return NO_RECIPIENTS;
  }
  return undefined;
}

/** The bytes that follow a refused BDAT are there all the same (RFC 3030 §2). */
function drainOf(command: Command): { effect?: Effect } {
  return command.verb === "BDAT" ? { effect: { kind: "drain", size: command.size } } : {};
}

function perform(session: Session, command: Command, rules: Rules): Step {
  switch (command.verb) {
    case "EHLO":
    case "HELO":
    case "LHLO":
      return greet(session, command.verb === "EHLO", command.domain, rules);
    case "MAIL":
      return mail(session, command, rules);
    case "RCPT":
      return rcpt(session, command, rules);
    case "DATA":
      if (session.transaction?.parameters.body === "BINARYMIME") return { session, reply: BINARY_NEEDS_BDAT };
      return { session, effect: { kind: "data" } };
    case "BDAT":
      return {
        session: withTransaction(session, { chunking: true }),
        effect: { kind: "chunk", size: command.size, last: command.last },
      };
    case "RSET":
      return { session: { ...session, transaction: undefined }, reply: FLUSHED };
    case "NOOP":
      return { session, reply: OK };
    case "HELP":
      return { session, reply: reply(214, "2.0.0", ...helpOn(command.argument, session, rules)) };
    case "VRFY":
      return { session, reply: CANNOT_VERIFY };
    case "EXPN":
      return { session, reply: NOT_OFFERED };
    case "STARTTLS":
      return { session, reply: START_TLS, effect: { kind: "startTls" } };
    case "AUTH":
      return auth(session, command.mechanism, command.initialResponse, rules);
    case "QUIT":
      return {
        session: { ...session, transaction: undefined },
        reply: reply(221, "2.0.0", `${rules.hostname} closing the connection`),
        effect: { kind: "close" },
      };
  }
}

function greet(session: Session, extended: boolean, helo: string, rules: Rules): Step {
  const greeted = { ...session, helo, extended, transaction: undefined };
  if (!extended) return { session: greeted, reply: reply(250, undefined, rules.hostname) };
  // RFC 2034 §4 has no enhanced status in this one reply: its lines are keywords.
  return { session: greeted, reply: reply(250, undefined, rules.hostname, ...ehloKeywords(session, rules)) };
}

function mail(session: Session, { reversePath, parameters }: Mail, rules: Rules): Step {
  if (parameters.size !== undefined && parameters.size > rules.maxMessageSize) {
    return { session, reply: TOO_LARGE };
  }
  if (parameters.requireTls && !session.tls) return { session, reply: REQUIRETLS_NEEDS_TLS };
  if (!rules.available()) return { session, reply: NO_ROOM };
  const transaction: Transaction = { reversePath, parameters, recipients: undefined, chunking: false };
  return { session: { ...session, transaction }, reply: SENDER_OK };
}

function rcpt(session: Session, { forwardPath, parameters }: Rcpt, rules: Rules): Step {
  const earlier = session.transaction?.recipients;
  const count = (earlier?.count ?? 0) + 1;
  if (count > rules.maxRecipients) return { session, reply: TOO_MANY_RECIPIENTS };
  const address = rules.recipient(session, forwardPath);
  if (typeof address !== "string") return { session, reply: address };
  const recipient: NewRecipient = { address, ...parameters };
  return {
    session: withTransaction(session, { recipients: { recipient, count, earlier } }),
    reply: RECIPIENT_OK,
  };
}

function auth(session: Session, mechanism: string, initialResponse: string | undefined, rules: Rules): Step {
  if (session.user !== undefined) return { session, reply: ALREADY_IN };
  if (!mayAuth(session)) return { session, reply: AUTH_IN_CLEAR };
  if (!rules.mechanisms.includes(mechanism)) return { session, reply: MECHANISM_UNKNOWN };
  return { session, effect: { kind: "auth", mechanism, initialResponse } };
}

function withTransaction(session: Session, change: Partial<Transaction>): Session {
  const { transaction } = session;
  return transaction ? { ...session, transaction: { ...transaction, ...change } } : session;
}
