/** What happened to a message, as kept in the event log and shown by logs, API and page. */

/** Where a recipient stands; one vocabulary everywhere. */
export type RecipientStatus =
  | "queued"
  | "deferred"
  | "held"
  | "delivered"
  | "failed"
  | "expired"
  | "cancelled"
  | "suppressed";

/** Why an envelope went back to the queue, or why it was touched. */
export type RequeueReason =
  | "received"
  | "remote 4xx"
  | "network"
  | "dns"
  | "tls"
  | "in doubt"
  | "local fault"
  | "shutdown"
  | "backoff"
  | "no room"
  | "takeover"
  | "admin retry"
  | "admin hold"
  | "admin release";

interface EventBase {
  /** Wall-clock milliseconds since the epoch. */
  readonly at: number;
  /** Queue id of the message. */
  readonly id: string;
}

/** A message was accepted and is durable. */
export interface ReceivedEvent extends EventBase {
  readonly type: "received";
  /** Reverse-path; "" for the null reverse-path. */
  readonly from: string;
  readonly to: readonly string[];
  readonly size: number;
  /** The content's Message-ID field, without angle brackets. */
  readonly messageId?: string;
  /** `ESMTPS`, `HTTP`, `DSN` … as in a Received field's `with`. */
  readonly protocol: string;
  /** Address of the client. */
  readonly client?: string;
  readonly user?: string;
  /** For a DSN: queue id of the message it reports on. */
  readonly reportOf?: string;
}

/** One delivery attempt ended, for one recipient. */
export interface AttemptEvent extends EventBase {
  readonly type: "delivered" | "deferred" | "failed" | "expired";
  readonly to: string;
  /** Number of this attempt, from 1. */
  readonly attempt: number;
  readonly queue: string;
  /** Host that answered, or that could not be reached. */
  readonly mx?: string;
  /** Its last reply, or ours when it gave none. */
  readonly reply: string;
  readonly reason?: RequeueReason;
  /** Deferred: when it is tried again. */
  readonly nextAttemptAt?: number;
}

/** An operator or the sender changed the course of a message. */
export interface AdminEvent extends EventBase {
  readonly type: "held" | "released" | "retried" | "cancelled";
  readonly to: readonly string[];
  /** Token name, or `local` for a call without tokens. */
  readonly by: string;
}

export type QueueEvent = ReceivedEvent | AttemptEvent | AdminEvent;
