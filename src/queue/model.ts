/** The queue's nouns. See docs/architecture.md for how their rows lie in the store. */
import type { BodyType, Report } from "../message/report.ts";
import type { RecipientStatus, RequeueReason } from "../telemetry/event.ts";

export type { BodyType, Report, ReportedRecipient } from "../message/report.ts";

/** Names one queue: `campaign:tenant@next-hop`, or just the next hop (see `next_hop.ts`). */
export type QueueName = string;

/** RFC 3461 §4.1. Absent on a recipient means the default: a failure report, perhaps a delay report. */
export interface Notify {
  readonly never?: true;
  readonly success?: true;
  readonly failure?: true;
  readonly delay?: true;
}

/** A recipient as it comes in. */
export interface NewRecipient {
  /** Bare forward-path: `local-part@domain`, no angle brackets; local-part case is kept. */
  readonly address: string;
  /** RFC 3461 §4.2, decoded from xtext: `rfc822;user@example.com`. */
  readonly orcpt?: string;
  readonly notify?: Notify;
}

/** A recipient that is still open: delivered, failed and cancelled ones leave the envelope for the event log. */
export interface Recipient extends NewRecipient {
  readonly status: Extract<RecipientStatus, "queued" | "deferred" | "held">;
  /** Attempts made so far. */
  readonly attempts: number;
  /** Last reply or network error, as one line. */
  readonly lastReply?: string;
  readonly lastMx?: string;
  /** A delay report has been sent. */
  readonly delayNotified?: true;
}

/** One message × one next hop × at most 100 recipients. */
export interface Envelope {
  /** Queue id of its message. */
  readonly id: string;
  /** Number within the message, from 0. */
  readonly n: number;
  readonly queue: QueueName;
  /** Priority band: 0 is served first. */
  readonly band: number;
  /** Next attempt, milliseconds since the epoch; meaningless while held. */
  readonly at: number;
  readonly recipients: readonly Recipient[];
}

/** Where a message came from, for the trace and the log. */
export interface Source {
  /** `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA`, `UTF8SMTP…` (RFC 3848, 6531), `HTTP`, `DSN`. */
  readonly protocol: string;
  readonly client?: string;
  readonly helo?: string;
  readonly user?: string;
}

/** A message in the queue, without its bytes. */
export interface Message {
  readonly id: string;
  readonly receivedAt: number;
  /** End of the queue lifetime. */
  readonly expiresAt: number;
  /** "" is the null reverse-path. */
  readonly reversePath: string;
  readonly envid?: string;
  readonly ret?: "FULL" | "HDRS";
  readonly body: BodyType;
  readonly smtpUtf8: boolean;
  readonly requireTls: boolean;
  /** Bytes of content; 0 for a report that is not rendered yet. */
  readonly size: number;
  readonly source: Source;
  readonly headerMessageId?: string;
  /** How many envelopes it was accepted with. */
  readonly envelopes: number;
  /** Set for our own reports; then the content is rendered from it. */
  readonly report?: Report;
}

/** What `accept` needs to know before the first byte of content. */
export interface NewMessage {
  readonly reversePath: string;
  readonly recipients: readonly NewRecipient[];
  readonly envid?: string;
  readonly ret?: "FULL" | "HDRS";
  /** Default `7BIT`. */
  readonly body?: BodyType;
  readonly smtpUtf8?: boolean;
  readonly requireTls?: boolean;
  /** Priority band, 0–9, default 5; lower goes first. */
  readonly band?: number;
  readonly source: Source;
}

/**
 * A message on its way in. Content is written in any chunking (the caller may reuse its buffer after the
 * promise resolves), then `commit` makes it durable or throws and nothing of it exists.
 */
export interface Upload {
  /** Queue id, known from the start for the Received field and the reply. */
  readonly id: string;
  write(chunk: Uint8Array): Promise<void>;
  /** Resolves after the commit: only then may 250 or 202 be answered. */
  commit(found?: { headerMessageId?: string }): Promise<void>;
  abort(): Promise<void>;
}

/** The front door, for SMTP, HTTP and our own mail. */
export interface Acceptor {
  /** @throws {Unavailable} when the queue can't take mail now. */
  begin(message: NewMessage): Upload;
  /** Why no mail can be accepted now: one sentence each, empty when all is well. */
  reasons(): string[];
}

/** Thrown when mail can't be kept just now: answer 4xx / 503. */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
}

/** What came of one recipient in one attempt. */
export interface Outcome {
  readonly kind: "delivered" | "deferred" | "failed";
  /** What else stops: `destination` means its host can't take anything now. */
  readonly scope: "recipient" | "message" | "destination";
  /** The remote's last reply or our own words, one line. */
  readonly reply: string;
  /** `x.y.z`; made from the reply code where the remote gave none. */
  readonly status: string;
  /** True when `reply` came from the remote host. */
  readonly fromRemote: boolean;
  readonly remoteMta?: string;
  readonly reason?: RequeueReason;
  /** Delivered: the remote takes over the duty to send a success report (it offered DSN). */
  readonly dsnPassedOn?: boolean;
  /** Delivered to a mailbox of our own (`delivered` in a report), not passed on (`relayed`). */
  readonly final?: boolean;
  /** Failed because the queue lifetime ended. */
  readonly expired?: boolean;
  /** Dev mode: kept to be looked at instead of sent. */
  readonly captured?: boolean;
}

/** An envelope taken out for one attempt. Must end in `settle` or `release`. */
export interface Claim {
  readonly message: Message;
  readonly envelope: Envelope;
  /** Bytes `content` will yield. */
  readonly size: number;
  /** The content with CRLF line ends as stored, without dot-stuffing. May be called again for the next host. */
  content(): AsyncIterable<Uint8Array>;
  /** The content where it is at hand in memory, to skip the async iteration; undefined when it must be streamed. */
  readonly bytes: Uint8Array | undefined;
  /** RFC 8617-free fact for SIZE and 8BITMIME checks: what the next host must support. */
  readonly body: BodyType;
}

/** The delivery side of the queue. */
export interface Work {
  /** The one listener is told, synchronously, that `queue` has something to take. */
  onReady(listener: (queue: QueueName) => void): void;
  /**
   * Takes the next envelope, by band, then time. Undefined: nothing at hand; where more lies in the store it is
   * being loaded, and the listener hears of it. `want` says how many more the caller could use, to size the load.
   * Expired envelopes are failed on the way and never handed out.
   */
  take(queue: QueueName, want: number): Claim | undefined;
  /** Whether the queue has anything at hand or being loaded. */
  hasWork(queue: QueueName): boolean;
  /** Records one outcome per `claim.envelope.recipients`, in that order. Resolves after the commit. */
  settle(claim: Claim, outcomes: readonly Outcome[]): Promise<void>;
  /** Gives a claim back unattempted. */
  release(claim: Claim, reason: RequeueReason): void;
  /** The queue is not offered again for `ms` milliseconds (everything at hand of it goes back). */
  pause(queue: QueueName, ms: number): void;
  /** False when this process must start no delivery now (its lease is in doubt, or it is shutting down). */
  mayDeliver(): boolean;
}
