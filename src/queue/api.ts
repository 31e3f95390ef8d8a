/** What the HTTP API asks of the queue, in the shapes it sends as JSON. Times are RFC 3339 text in UTC. */
import type { RecipientStatus, RequeueReason } from "../telemetry/event.ts";

/** One attempt to deliver to one recipient. */
export interface AttemptView {
  readonly at: string;
  /** Host that answered, or that could not be reached; null where none was found. */
  readonly mx: string | null;
  /** Its last reply, or our own words. */
  readonly reply: string;
  /** What the attempt ended with. */
  readonly status: RecipientStatus;
  readonly reason?: RequeueReason;
}

/** One recipient of a message, also after it left the queue. */
export interface RecipientView {
  readonly address: string;
  readonly status: RecipientStatus;
  readonly attempts: readonly AttemptView[];
  /** Only while it waits for one. */
  readonly nextAttemptAt?: string;
  /** The queue it waits in. */
  readonly queue?: string;
}

/** An order somebody gave, for the timeline. */
export interface OrderView {
  readonly at: string;
  readonly type: "held" | "released" | "retried" | "cancelled";
  readonly by: string;
  readonly to: readonly string[];
}

/** `GET /v1/messages/{id}` */
export interface MessageView {
  readonly id: string;
  /** "" is the null reverse-path. */
  readonly from: string;
  /** See {@linkcode overallStatus}. */
  readonly status: RecipientStatus;
  readonly receivedAt: string;
  /** End of the queue lifetime; only while it is in the queue. */
  readonly expiresAt?: string;
  readonly size: number;
  /** Message-ID field, without angle brackets. */
  readonly messageId?: string;
  readonly protocol: string;
  readonly client?: string;
  readonly user?: string;
  /** For a report of our own: queue id of the message it reports on. */
  readonly reportOf?: string;
  readonly recipients: readonly RecipientView[];
  readonly orders?: readonly OrderView[];
  /** True when its content is still kept, so that `content` yields it. */
  readonly contentKept?: boolean;
}

/** How `domains` is sorted: most waiting first, oldest first, or by name. */
export type DomainSort = "waiting" | "oldest" | "domain";

/** One line of the queue's table: a next hop. */
export interface DomainView {
  /** Domain, or the static next hop's text. */
  readonly domain: string;
  /** Recipients that wait for their time. */
  readonly scheduled: number;
  /** Recipients that wait for room. */
  readonly ready: number;
  readonly inFlight: number;
  readonly held: number;
  /** When the oldest waiting message came in; null where it is not known or nothing waits. */
  readonly oldest: string | null;
  readonly lastReply: string | null;
}

/** `GET /v1/queue` */
export interface QueueView {
  /** Messages that still wait; no dead letters. */
  readonly messages: number;
  readonly recipients: number;
  readonly scheduled: number;
  readonly ready: number;
  readonly inFlight: number;
  readonly held: number;
  readonly deadLetters: number;
  readonly oldest: string | null;
  readonly domains: readonly DomainView[];
  /** Given back as `cursor`, it yields the next page of `domains`. */
  readonly cursor?: string;
}

/** A page of a list: at most `limit` entries, from where `cursor` of the page before left off. */
export interface Page {
  readonly limit: number;
  readonly cursor?: string;
}

/** One line of a list of messages. */
export interface FoundView {
  readonly id: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly status: RecipientStatus;
  readonly receivedAt: string;
  readonly messageId?: string;
}

/** `GET /v1/messages` */
export interface MessagesView {
  readonly messages: readonly FoundView[];
  readonly cursor?: string;
}

/** One captured message; `subject` is decoded (RFC 2047). */
export interface CapturedView {
  readonly id: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly subject: string;
  readonly receivedAt: string;
  readonly size: number;
}

/** `GET /v1/captured`, newest first */
export interface CapturedListView {
  readonly messages: readonly CapturedView[];
  readonly cursor?: string;
}

/** One dead letter. */
export interface DeadView {
  readonly id: string;
  readonly from: string;
  readonly subject: string;
  readonly receivedAt: string;
  readonly failedAt: string;
  readonly size: number;
  readonly recipients: readonly {
    readonly address: string;
    readonly status: RecipientStatus;
    readonly reply: string;
  }[];
}

/** `GET /v1/dead`, newest first */
export interface DeadListView {
  readonly messages: readonly DeadView[];
  readonly cursor?: string;
}

/** One live lane of delivery: Epoxi's pipeline, named by its routing key (host and source address). */
export interface PipelineView {
  readonly node: string;
  readonly pipeline_name: string;
  readonly routing_key: string;
  readonly health: "healthy" | "unhealthy" | "unknown";
  readonly started_at: string | null;
  readonly last_check: string;
  readonly error: string | null;
  readonly connections?: number;
  readonly in_flight?: number;
  readonly waiting?: number;
}

export type CommandKind = "retry" | "hold" | "release" | "cancel";

/**
 * What came of a command: `applied` when it is done, `accepted` when it is durable and the owner of the message
 * applies it shortly, `not found` when no message of that id waits.
 */
export type CommandResult = "applied" | "accepted" | "not found";

/** The queue as seen by the HTTP API. An id that is none is answered like one that does not exist. */
export interface QueueApi {
  get(id: string): Promise<MessageView | undefined>;
  summary(options: Page & { readonly sort: DomainSort }): Promise<QueueView>;
  /** Messages in the queue, oldest first. `domain` keeps those that wait for that line of the queue's table. */
  list(
    options: Page & { readonly domain?: string; readonly status?: RecipientStatus },
  ): Promise<MessagesView>;
  command(kind: CommandKind, id: string, by: string): Promise<CommandResult>;
  /** Messages with this sender, recipient or Message-ID (with or without angle brackets), newest first. */
  find(query: string, limit: number): Promise<readonly FoundView[]>;
  captured(options: Page): Promise<CapturedListView>;
  /** The content of a message in the queue, a captured one, or a dead letter; undefined where it is not kept. */
  content(id: string): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Removes a captured message, or all of them. */
  forget(id: string | undefined, by: string): Promise<CommandResult>;
  dead(options: Page): Promise<DeadListView>;
  /** Puts a dead letter's failed recipients back into the queue. */
  replay(id: string, by: string): Promise<CommandResult>;
  /** Removes a dead letter. */
  purge(id: string, by: string): Promise<CommandResult>;
  /** Live lanes of every node. */
  pipelines(): Promise<readonly PipelineView[]>;
}

const OPEN = ["queued", "deferred", "held"] as const;
const CLOSED = ["failed", "expired", "suppressed", "cancelled", "delivered"] as const;

/**
 * The status of a message out of its recipients': while any is open, the first of `queued`, `deferred`, `held` that
 * occurs; afterwards the worst of what happened.
 */
export function overallStatus(recipients: readonly { readonly status: RecipientStatus }[]): RecipientStatus {
  const found = new Set(recipients.map(({ status }) => status));
  return [...OPEN, ...CLOSED].find((status) => found.has(status)) ?? "delivered";
}
