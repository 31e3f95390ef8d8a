/** What the parts of the queue share; made once by `queue.ts`. */
import type { EventJournal } from "../kv/journal.ts";
import type { IdSource } from "../kv/ids.ts";
import type { Session } from "../kv/session.ts";
import type { Store } from "../kv/store.ts";
import type { Job, Writer } from "../kv/writer.ts";
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../telemetry/log.ts";
import type { QueueEvent } from "../telemetry/event.ts";
import type { NextHop } from "./next_hop.ts";

/** Settings of the queue, out of the configuration. */
export interface QueueSettings {
  readonly hostname: string;
  readonly retrySchedule: readonly number[];
  readonly queueLifetime: number;
  readonly delayNotice: number;
  readonly readyMemory: number;
  readonly history: number;
  readonly historySize: number;
  readonly deadLetters: number;
  readonly deadLettersSize: number;
}

/** The store, its writer, and everything injected. */
export interface QueueContext {
  readonly store: Store;
  readonly writer: Writer<QueueEvent>;
  readonly session: Session;
  readonly journal: EventJournal<QueueEvent>;
  readonly ids: IdSource;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly settings: QueueSettings;
  readonly routing: (domain: string) => NextHop;
  /** Tells observers (log lines, metrics) of events that are durable now. */
  readonly publish: (events: readonly QueueEvent[]) => void;
}

/** Commits a job and publishes its events. */
export async function commit(context: QueueContext, job: Job<QueueEvent>): Promise<void> {
  await context.writer.commit(job);
  if (job.entries) context.publish(job.entries);
}

/** Names of the counters in `["cnt", s]`. */
export const COUNTERS = {
  messages: "messages",
  recipients: "recipients",
  held: "held",
  dead: "dead",
  deadBytes: "deadBytes",
  captured: "captured",
  capturedBytes: "capturedBytes",
} as const;
