/** One message on its way from a client into the queue. */
import { HeaderScanner } from "../message/header_scanner.ts";
import { formatDate } from "../message/header.ts";
import { Unavailable, type Upload } from "../queue/model.ts";
import { LineEndCheck } from "../smtp/line_ends.ts";
import { type Reply, reply } from "../smtp/reply.ts";
import type { Log } from "../telemetry/log.ts";

/** How one message is taken in. */
export interface IncomingOptions {
  readonly upload: Upload;
  /** Bytes of content a client may send. */
  readonly maxSize: number;
  /** Trace field with its CRLF. */
  readonly received: string;
  /** Submission: adds Date and Message-ID where they are missing (RFC 6409 §8.2, §8.3). */
  readonly complete?: { readonly hostname: string; readonly now: number };
  /** Looks for CR and LF on their own; DATA has its own scanner for that. */
  readonly checkLineEnds: boolean;
  readonly log: Log;
}

/** RFC 5321 §6.3: more than that many Received fields mean a loop. */
const MAX_HOPS = 50;

const TOO_LARGE = reply(552, "5.3.4", "Message is too large");
const LOOP = reply(
  554,
  "5.4.6",
  `Too many hops: more than ${MAX_HOPS} Received fields, this looks like a mail loop`,
);
const BARE_LINE_END = reply(550, "5.6.11", "Content has CR or LF on their own; lines must end with CRLF");
const NO_ROOM = reply(452, "4.3.1", "Mail cannot be accepted just now, try again later");
const LOCAL_FAULT = reply(451, "4.3.0", "Local fault, try again later");

/** The reply to an error of ours; what it says stays with us. */
export function faultReply(
  error: unknown,
  log: Log,
  fields: { readonly client?: string; readonly id?: string },
): Reply {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof Unavailable) {
    log.warn("mail not accepted", { ...fields, reason: message });
    return NO_ROOM;
  }
  log.error("reception failed", { ...fields, error: message });
  return LOCAL_FAULT;
}

/**
 * Streams content into an upload, with what a server adds in front. Once refused, content is only counted; the
 * upload is given up at once, and {@linkcode finish} gives the reason.
 */
export class IncomingMessage {
  readonly #options: IncomingOptions;
  readonly #header = new HeaderScanner();
  readonly #lineEnds = new LineEndCheck();
  #size = 0;
  #refusal: Reply | undefined;

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  get id(): string {
    return this.#options.upload.id;
  }

  /** Bytes the client sent so far. */
  get size(): number {
    return this.#size;
  }

  /** Why the message is refused, as soon as that is known. */
  get refusal(): Reply | undefined {
    return this.#refusal;
  }

  /** Takes content; its bytes may change after the promise resolves. Never throws. */
  async push(content: Uint8Array): Promise<void> {
    this.#size += content.length;
    if (this.#refusal) return;
    if (this.#size > this.#options.maxSize) return await this.#refuse(TOO_LARGE);
    if (this.#options.checkLineEnds) this.#lineEnds.push(content);
    try {
      if (this.#header.facts) return await this.#options.upload.write(content);
      const stretch = this.#header.push(content);
      if (stretch) await this.#begin(stretch);
    } catch (error) {
      await this.#refuse(this.#fault(error));
    }
  }

  /** Ends the content: a reply of 250 means that the message is durable. Never throws. */
  async finish(bareLineEnd: boolean): Promise<Reply> {
    this.#lineEnds.end();
    if (bareLineEnd || (this.#options.checkLineEnds && this.#lineEnds.bareLineEnd)) {
      await this.#refuse(BARE_LINE_END);
    }
    if (this.#refusal) return this.#refusal;
    const { upload } = this.#options;
    try {
      if (!this.#header.facts) await this.#begin(this.#header.end());
      // Set by a loop found just now.
      if (this.#refusal) return this.#refusal;
      const headerMessageId = this.#messageId();
      await upload.commit(headerMessageId === undefined ? {} : { headerMessageId });
      return reply(250, "2.0.0", `OK queued as ${upload.id}`);
    } catch (error) {
      const refusal = this.#fault(error);
      await this.#refuse(refusal);
      return refusal;
    }
  }

  /** The client is gone, or gave up. Never throws. */
  async abort(): Promise<void> {
    if (!this.#refusal) await this.#refuse(LOCAL_FAULT);
  }

  /** Writes the beginning: our fields, then the header section and what came with it, as one chunk. */
  async #begin(stretch: Uint8Array): Promise<void> {
    const facts = this.#header.facts!;
    if (facts.received >= MAX_HOPS) return await this.#refuse(LOOP);
    const front = new TextEncoder().encode(
      this.#options.received + this.#missingFields() + (facts.bodyOnly ? "\r\n" : ""),
    );
    const bytes = new Uint8Array(front.length + stretch.length);
    bytes.set(front);
    bytes.set(stretch, front.length);
    await this.#options.upload.write(bytes);
  }

  #missingFields(): string {
    const { complete } = this.#options;
    const facts = this.#header.facts!;
    if (!complete) return "";
    return (facts.hasDate ? "" : `Date: ${formatDate(complete.now)}\r\n`) +
      (facts.hasMessageId ? "" : `Message-ID: <${this.#newMessageId()}>\r\n`);
  }

  #messageId(): string | undefined {
    const facts = this.#header.facts!;
    if (this.#options.complete && !facts.hasMessageId) return this.#newMessageId();
    return facts.messageId;
  }

  #newMessageId(): string {
    return `${this.id}@${this.#options.complete!.hostname}`;
  }

  #fault(error: unknown): Reply {
    return faultReply(error, this.#options.log, { id: this.id });
  }

  async #refuse(refusal: Reply): Promise<void> {
    const first = this.#refusal === undefined;
    this.#refusal ??= refusal;
    if (!first) return;
    try {
      await this.#options.upload.abort();
    } catch (error) {
      this.#options.log.warn("upload not removed", {
        id: this.id,
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }
}
