/** The end of an attempt: one outcome per recipient becomes rows, reports and events, in one atomic. */
import type { Mutation } from "../kv/writer.ts";
import type { AttemptEvent, QueueEvent } from "../telemetry/event.ts";
import type { ActiveQueues } from "./active.ts";
import type { ReadyEnvelope } from "./active_queue.ts";
import { readBody, readHeader } from "./body.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import type { Envelope, Outcome, Recipient } from "./model.ts";
import { nextAttemptAt } from "./retry.ts";
import { makeReports, type Reportable, type ReportRows } from "./reports.ts";
import { removeMessage } from "./remove.ts";
import {
  deleteEnvelope,
  dueKey,
  type KeptKind,
  type KeptRecipient,
  setDue,
  setEnvelope,
  shardOfMessage,
} from "./rows.ts";

/** Bytes of the original's header that a report carries at most. */
export const REPORT_HEADER_MAX = 16 * 1024;
/** Characters of a reply that are kept: 100 recipients with one each must fit into one row. */
const MAX_REPLY = 250;

/** What becomes of a recipient that is still open after the attempt. */
export type Order = "hold" | "cancel";

/** Records outcomes; one per process. */
export class Settle {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  /** Settles of one message with several envelopes go one after the other, so that the last one sees it is. */
  readonly #turns = new Map<string, Promise<void>>();
  /** Orders that came while an envelope was in flight. */
  readonly #orders = new Map<string, Order>();

  constructor(context: QueueContext, active: ActiveQueues) {
    this.#context = context;
    this.#active = active;
  }

  /** From now on what stays open of this message is held or cancelled when its attempt ends. */
  order(id: string, order: Order): void {
    this.#orders.set(id, order);
  }

  /**
   * Records one outcome per recipient of `ready.envelope`. Resolves after the commit; on an error nothing has
   * changed, and the envelope is due as before.
   */
  async settle(ready: ReadyEnvelope, outcomes: readonly Outcome[]): Promise<void> {
    if (outcomes.length !== ready.envelope.recipients.length) {
      throw new RangeError(`${outcomes.length} outcomes for ${ready.envelope.recipients.length} recipients`);
    }
    let nextAt: number | undefined;
    const work = async () => {
      nextAt = await this.#commit(ready, outcomes);
    };
    if (ready.message.envelopes === 1) await work();
    else await this.inTurn(ready.message.id, work);
    this.#active.finish(ready, nextAt);
  }

  /** Fails everyone open in an envelope that is not in flight, because the queue lifetime ended. */
  async expire(ready: ReadyEnvelope): Promise<void> {
    const outcomes = ready.envelope.recipients.map(expiredOutcome);
    await this.inTurn(ready.message.id, async () => {
      await this.#commit(ready, outcomes);
    });
  }

  /** Runs `work` when no other work on the message is under way. */
  async inTurn(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#turns.get(id);
    const mine = (async () => {
      await before?.catch(() => {});
      await work();
    })();
    this.#turns.set(id, mine);
    try {
      await mine;
    } finally {
      if (this.#turns.get(id) === mine) this.#turns.delete(id);
    }
  }

  /** Returns when the envelope is due again, if it is. */
  async #commit(ready: ReadyEnvelope, outcomes: readonly Outcome[]): Promise<number | undefined> {
    const { message, envelope, shard } = ready;
    const now = this.#context.clock.now();
    const attempt = new Attempt(this.#context, ready, now, this.#orders.get(message.id));
    outcomes.forEach((outcome, i) => attempt.add(envelope.recipients[i]!, outcome));
    const mutations: Mutation[] = [{ key: dueKey(envelope) }];
    const rest = attempt.rest();
    const reports = await this.#reports(ready, attempt, now);
    for (const report of reports) mutations.push(...report.mutations);
    const counts = attempt.counts;
    if (rest) {
      mutations.push(setEnvelope(rest));
      if (!attempt.held) mutations.push(setDue(rest, true));
    } else {
      if (ready.ownRow) mutations.push(deleteEnvelope(envelope));
    }
    const cleanup = await removeMessage(this.#context, ready, {
      last: !rest,
      kept: attempt.kept,
      now,
      mutations,
      counts,
    });
    const entries: QueueEvent[] = [...attempt.events, ...reports.map((report) => report.event)];
    const reserved = reports.flatMap((report) => this.#reserve(report, mutations));
    for (const report of reports) {
      counts[COUNTERS.messages] = (counts[COUNTERS.messages] ?? 0) + 1;
      counts[COUNTERS.recipients] = (counts[COUNTERS.recipients] ?? 0) + report.envelope.recipients.length;
    }
    try {
      await commit(this.#context, { shard, mutations, fenced: true, entries, counts });
    } catch (error) {
      for (const report of reserved) this.#active.retract(report.envelope, shard);
      throw error;
    }
    for (const report of reserved) {
      const { message, envelope } = report;
      this.#active.offer({ message, envelope, shard, ownRow: false, bytes: undefined, chunks: 0 });
    }
    if (!rest) this.#orders.delete(message.id);
    await cleanup?.();
    return rest && !attempt.held ? rest.at : undefined;
  }

  async #reports(ready: ReadyEnvelope, attempt: Attempt, now: number): Promise<ReportRows[]> {
    if (attempt.reported.length === 0) return [];
    const { message, bytes, chunks } = ready;
    const content = bytes
      ? [bytes]
      : readBody(this.#context.store.reader, { message, chunks, ...(bytes ? { body: bytes } : {}) });
    const header = message.report ? "" : await readHeader(toAsync(content), REPORT_HEADER_MAX);
    return makeReports(this.#context, message, attempt.reported, { header, now });
  }

  #reserve(report: ReportRows, mutations: Mutation[]): ReportRows[] {
    const agenda = this.#active.reserve(report.envelope, shardOfMessage(report.message.id));
    if (agenda) mutations.push(agenda);
    return [report];
  }
}

async function* toAsync(chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  yield* chunks;
}

/** The outcome of a recipient whose time is over. */
export function expiredOutcome(recipient: Recipient): Outcome {
  const reply = recipient.lastReply ?? "message lifetime ended before the destination could be reached";
  return {
    kind: "failed",
    scope: "recipient",
    expired: true,
    reply,
    status: "4.4.7",
    fromRemote: isSmtpReply(recipient.lastReply),
    ...(recipient.lastMx ? { remoteMta: recipient.lastMx } : {}),
  };
}

/** Whether a kept reply came from a remote host: it begins with its code. */
export function isSmtpReply(reply: string | undefined): boolean {
  return reply !== undefined && /^[2-5]\d\d[ -]/.test(reply);
}

/** What the outcomes of one attempt add up to. */
class Attempt {
  readonly events: QueueEvent[] = [];
  readonly reported: Reportable[] = [];
  readonly counts: Record<string, number> = {};
  readonly kept: { kind: KeptKind; recipients: KeptRecipient[] } = { kind: "dead", recipients: [] };
  held = false;
  #open: Recipient[] = [];
  #at = 0;

  constructor(
    readonly context: QueueContext,
    readonly ready: ReadyEnvelope,
    readonly now: number,
    readonly order: Order | undefined,
  ) {}

  add(recipient: Recipient, outcome: Outcome): void {
    const reply = outcome.reply.slice(0, MAX_REPLY);
    const { message } = this.ready;
    if (outcome.kind === "deferred") return this.#deferred(recipient, { ...outcome, reply });
    this.counts[COUNTERS.recipients] = (this.counts[COUNTERS.recipients] ?? 0) - 1;
    if (recipient.status === "held") this.counts[COUNTERS.held] = (this.counts[COUNTERS.held] ?? 0) - 1;
    if (outcome.kind === "failed") {
      this.#event(recipient, outcome.expired ? "expired" : "failed", outcome, {});
      this.#keep("dead", recipient, outcome);
      const wanted = recipient.notify ? recipient.notify.failure : true;
      if (wanted && message.reversePath) this.reported.push({ recipient, action: "failed", outcome });
      return;
    }
    this.#event(recipient, "delivered", outcome, {});
    if (outcome.captured) this.#keep("captured", recipient, outcome);
    if (recipient.notify?.success && !outcome.dsnPassedOn && message.reversePath) {
      this.reported.push({ recipient, action: outcome.final ? "delivered" : "relayed", outcome });
    }
  }

  /** The envelope as it goes on, or undefined when nobody in it is open. */
  rest(): Envelope | undefined {
    if (this.#open.length === 0) return undefined;
    return { ...this.ready.envelope, at: this.#at, recipients: this.#open };
  }

  #deferred(recipient: Recipient, outcome: Outcome): void {
    const { message } = this.ready;
    const { retrySchedule } = this.context.settings;
    const attempts = recipient.attempts + 1;
    if (this.order === "cancel") {
      this.counts[COUNTERS.recipients] = (this.counts[COUNTERS.recipients] ?? 0) - 1;
      this.events.push({
        type: "cancelled",
        at: this.now,
        id: message.id,
        to: [recipient.address],
        by: "order",
      });
      return;
    }
    if (this.#at === 0) {
      const schedule = { waits: retrySchedule, random: this.context.random };
      this.#at = nextAttemptAt(schedule, attempts, this.now, message.expiresAt);
    }
    if (this.order === "hold") {
      this.held = true;
      this.counts[COUNTERS.held] = (this.counts[COUNTERS.held] ?? 0) + 1;
    }
    this.#event(recipient, "deferred", outcome, {
      nextAttemptAt: this.#at,
      ...(outcome.reason ? { reason: outcome.reason } : {}),
    });
    this.#open.push({
      ...recipient,
      status: this.held ? "held" : "deferred",
      attempts,
      lastReply: outcome.reply,
      ...(outcome.remoteMta ? { lastMx: outcome.remoteMta } : {}),
    });
  }

  #event(
    recipient: Recipient,
    type: AttemptEvent["type"],
    outcome: Outcome,
    more: Pick<AttemptEvent, "nextAttemptAt" | "reason">,
  ): void {
    this.events.push({
      type,
      at: this.now,
      id: this.ready.message.id,
      to: recipient.address,
      attempt: recipient.attempts + 1,
      queue: this.ready.envelope.queue,
      ...(outcome.remoteMta ? { mx: outcome.remoteMta } : {}),
      reply: outcome.reply.slice(0, MAX_REPLY),
      ...more,
    });
  }

  #keep(kind: KeptKind, recipient: Recipient, outcome: Outcome): void {
    this.kept.kind = kind;
    this.kept.recipients.push({
      address: recipient.address,
      ...(recipient.orcpt ? { orcpt: recipient.orcpt } : {}),
      status: outcome.kind === "delivered" ? "delivered" : outcome.expired ? "expired" : "failed",
      reply: outcome.reply.slice(0, MAX_REPLY),
      at: this.now,
    });
  }
}
