/** Content of a message: from the wire into the queue, by DATA or by BDAT. */
import { receivedField } from "../message/received.ts";
import type { NewMessage } from "../queue/model.ts";
import { DataScanner } from "../smtp/data_scanner.ts";
import type { LineScanner } from "../smtp/line_scanner.ts";
import { type Reply, reply } from "../smtp/reply.ts";
import type { ServerContext } from "./context.ts";
import { faultReply, IncomingMessage } from "./incoming.ts";
import { protocolOf, recipientsOf, type Session } from "./session.ts";
import type { Wire } from "./wire.ts";

/** How a DATA or BDAT ended. */
export interface Answered {
  readonly answer: Reply;
  /** The message goes on with another BDAT. */
  readonly more: boolean;
  /** The connection must be closed behind the answer. */
  readonly hangUp: boolean;
}

/** The client ended, or broke off, in the middle of content. */
class Lost extends Error {
  override readonly name = "Lost";
}

const GO_AHEAD = reply(354, undefined, "Go ahead, end with <CRLF>.<CRLF>");
const TOO_LARGE = reply(552, "5.3.4", "Message is too large");
/** Bytes of a refused message that are read on behalf of the dialog; beyond, the connection is closed. */
const MAX_DRAIN_FACTOR = 2;
const MIN_DRAIN = 16 * 1024 * 1024;

/** Reads content for one connection; at most one message at a time. */
export class Content {
  readonly #context: ServerContext;
  readonly #wire: Wire;
  readonly #lines: LineScanner;
  /** Open between the chunks of BDAT. */
  #incoming: IncomingMessage | undefined;

  constructor(context: ServerContext, wire: Wire, lines: LineScanner) {
    this.#context = context;
    this.#wire = wire;
    this.#lines = lines;
  }

  /** A message is half received. */
  get open(): boolean {
    return this.#incoming !== undefined;
  }

  /** Gives up a message that is half received. Never throws. */
  async abort(): Promise<void> {
    const incoming = this.#incoming;
    this.#incoming = undefined;
    await incoming?.abort();
  }

  /** DATA: answers 354 and takes the content. @throws when the connection is lost. */
  async data(session: Session, tls: string | undefined): Promise<Answered> {
    const incoming = this.#begin(session, tls, false);
    if (!(incoming instanceof IncomingMessage)) return { answer: incoming, more: false, hangUp: false };
    this.#incoming = incoming;
    this.#wire.reply(GO_AHEAD);
    this.#wire.restartTimer();
    await this.#wire.flush();
    const scanner = new DataScanner();
    const whole = await this.#readData(incoming, scanner);
    this.#wire.stopTimer();
    if (!whole) {
      await this.abort();
      return { answer: TOO_LARGE, more: false, hangUp: true };
    }
    const answer = await incoming.finish(scanner.bareLineEnd);
    this.#incoming = undefined;
    return { answer, more: false, hangUp: false };
  }

  /** BDAT: takes one chunk. @throws when the connection is lost. */
  async chunk(session: Session, tls: string | undefined, size: number, last: boolean): Promise<Answered> {
    const incoming = this.#incoming ??
      this.#begin(session, tls, session.transaction?.parameters.body !== "BINARYMIME");
    if (!(incoming instanceof IncomingMessage)) {
      return { answer: incoming, more: false, hangUp: !await this.drain(size) };
    }
    this.#incoming = incoming;
    if (incoming.size + size > this.#context.rules.maxMessageSize) {
      await this.abort();
      return { answer: TOO_LARGE, more: false, hangUp: !await this.drain(size) };
    }
    await this.#readChunk(size, (content) => incoming.push(content));
    const refusal = incoming.refusal;
    if (!last && !refusal) {
      return { answer: reply(250, "2.0.0", `${size} octets received`), more: true, hangUp: false };
    }
    this.#wire.stopTimer();
    const answer = await incoming.finish(false);
    this.#incoming = undefined;
    return { answer, more: false, hangUp: false };
  }

  /** Reads a refused chunk to its end; false when it is so large that the connection should rather be closed. */
  async drain(size: number): Promise<boolean> {
    if (size > this.#drainLimit) return false;
    await this.#readChunk(size, () => {});
    return true;
  }

  get #drainLimit(): number {
    return Math.max(MIN_DRAIN, this.#context.rules.maxMessageSize * MAX_DRAIN_FACTOR);
  }

  /** Reads up to CRLF.CRLF; false when a message that is too large does not end. */
  async #readData(incoming: IncomingMessage, scanner: DataScanner): Promise<boolean> {
    const buffer = this.#context.pool.borrow();
    try {
      let bytes: Uint8Array | undefined = this.#lines.takeRest();
      for (;;) {
        const { content, done, consumed } = scanner.push(bytes);
        const part = content.length === 1 ? content[0]! : joined(content);
        if (part.length > 0) await incoming.push(part);
        if (done) {
          this.#lines.push(bytes.subarray(consumed));
          // The buffer goes back to the pool.
          this.#lines.detach();
          return true;
        }
        if (incoming.size > this.#drainLimit) return false;
        bytes = await this.#wire.readInto(buffer);
        if (!bytes) throw new Lost("client disconnected in the middle of a message");
      }
    } finally {
      this.#context.pool.giveBack(buffer);
    }
  }

  /** Reads exactly `size` bytes, never more. */
  async #readChunk(size: number, take: (content: Uint8Array) => Promise<void> | void): Promise<void> {
    const rest = this.#lines.takeRest();
    const first = rest.subarray(0, Math.min(size, rest.length));
    this.#wire.restartTimer();
    if (first.length > 0) await take(first);
    this.#lines.push(rest.subarray(first.length));
    let left = size - first.length;
    if (left === 0) return;
    await this.#wire.flush();
    const buffer = this.#context.pool.borrow();
    try {
      while (left > 0) {
        const bytes = await this.#wire.readInto(left < buffer.length ? buffer.subarray(0, left) : buffer);
        if (!bytes) throw new Lost("client disconnected in the middle of a message");
        left -= bytes.length;
        await take(bytes);
      }
    } finally {
      this.#context.pool.giveBack(buffer);
    }
  }

  /** Opens an upload, or tells why not. */
  #begin(session: Session, tls: string | undefined, checkLineEnds: boolean): IncomingMessage | Reply {
    const { acceptor, log, rules, clock, hostname } = this.#context;
    const { client, user, role } = session;
    const helo = session.helo ?? "";
    const recipients = recipientsOf(session.transaction?.recipients);
    const protocol = protocolOf(session);
    try {
      const upload = acceptor.begin(newMessage(session, recipients, protocol));
      const now = clock.now();
      const [only, another] = recipients;
      return new IncomingMessage({
        upload,
        maxSize: rules.maxMessageSize,
        received: receivedField({
          helo,
          client: client.address,
          by: hostname,
          protocol,
          id: upload.id,
          at: now,
          ...(tls === undefined ? {} : { tls }),
          ...(only && !another ? { recipient: only.address } : {}),
        }),
        ...(role === "submission" || user !== undefined ? { complete: { hostname, now } } : {}),
        checkLineEnds,
        log,
      });
    } catch (error) {
      return faultReply(error, log, { client: client.address });
    }
  }
}

function newMessage(session: Session, recipients: NewMessage["recipients"], protocol: string): NewMessage {
  const { client, helo, user, transaction } = session;
  const { envid, ret, body, smtpUtf8, requireTls } = transaction?.parameters ?? {};
  return {
    reversePath: transaction?.reversePath ?? "",
    recipients,
    ...(envid === undefined ? {} : { envid }),
    ...(ret === undefined ? {} : { ret }),
    ...(body === undefined ? {} : { body }),
    ...(smtpUtf8 ? { smtpUtf8 } : {}),
    ...(requireTls ? { requireTls } : {}),
    source: {
      protocol,
      client: client.address,
      ...(helo === undefined ? {} : { helo }),
      ...(user === undefined ? {} : { user }),
    },
  };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
