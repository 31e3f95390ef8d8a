/**
 * What must happen without anybody asking: expiry in every state, delay reports, and the bounds on what is kept.
 * Queue ids sort by time, so "older than" is a key range and nothing is looked at twice.
 */
import { idAt } from "../kv/ids.ts";
import { LOG_BYTES } from "../kv/journal.ts";
import { keys } from "../kv/keys.ts";
import type { Mutation } from "../kv/writer.ts";
import type { ActiveQueues } from "./active.ts";
import type { ReadyEnvelope } from "./active_queue.ts";
import { readBody, readHeader, readMessage } from "./body.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import type { Envelope, Message, Outcome, Recipient } from "./model.ts";
import { readEnvelopes } from "./read.ts";
import { deleteAll } from "./remove.ts";
import { findKept, purgeKept } from "./replay.ts";
import { makeReports, type Reportable } from "./reports.ts";
import {
  decodeKept,
  decodeMessage,
  setDue,
  setEnvelope,
  shardOfMessage,
  type StoredMessage,
} from "./rows.ts";
import { isSmtpReply, REPORT_HEADER_MAX, type Settle } from "./settle.ts";

/** Rows of one kind looked at in one pass of one shard. */
const BATCH = 200;
/** An upload that has not ended after this long never will. */
const UPLOAD_TIMEOUT = 3_600_000;

/** The sweeper of the shards we own. */
export class Sweep {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #settle: Settle;
  /** Up to which id a shard's messages have been looked at for delay reports. */
  readonly #delayed = new Map<number, string>();

  constructor(context: QueueContext, active: ActiveQueues, settle: Settle) {
    this.#context = context;
    this.#active = active;
    this.#settle = settle;
  }

  /** Shards changed hands: what we know of delay reports may be another's knowledge now. */
  reset(): void {
    this.#delayed.clear();
  }

  /** One pass over all our shards. */
  async run(signal: AbortSignal): Promise<void> {
    for (const shard of this.#context.session.owned) {
      for (const step of [this.#expire, this.#delay, this.#prune, this.#orphans]) {
        if (signal.aborted) return;
        try {
          await step.call(this, shard);
        } catch (error) {
          this.#context.log.error("sweep failed", {
            shard,
            error: error instanceof Error ? error.message : String(error),
          });
        }
      }
    }
  }

  /** Gives up messages whose lifetime has ended, wherever they are: scheduled, held, in a paused queue. */
  async #expire(shard: number): Promise<void> {
    const { store, clock, settings } = this.#context;
    const now = clock.now();
    const range = {
      prefix: ["m", shard],
      end: keys.message(shard, idAt(now - settings.queueLifetime, shard)),
    };
    for await (const { value } of store.reader.list(range, { limit: BATCH, batchSize: 50 })) {
      const stored = decodeMessage(value);
      if (stored.message.expiresAt <= now) {
        await expireMessage(this.#context, this.#active, this.#settle, stored);
      }
    }
  }

  async #delay(shard: number): Promise<void> {
    const { store, clock, settings } = this.#context;
    const now = clock.now();
    const start = keys.message(shard, this.#delayed.get(shard) ?? idAt(0, shard));
    const end = idAt(now - settings.delayNotice, shard);
    const range = { start, end: keys.message(shard, end) };
    let last: string | undefined;
    let count = 0;
    for await (const { value } of store.reader.list(range, { limit: BATCH, batchSize: 50 })) {
      const stored = decodeMessage(value);
      last = stored.message.id;
      count++;
      if (stored.message.reversePath && stored.message.expiresAt > now) await this.#delayMessage(stored);
    }
    this.#delayed.set(shard, count === BATCH ? last! + "z" : end);
  }

  /** Sends the delay reports of one message, once for each recipient that asked. */
  async #delayMessage(stored: StoredMessage): Promise<void> {
    const { id } = stored.message;
    const shard = shardOfMessage(id);
    await this.#settle.inTurn(id, async () => {
      const { reader } = this.#context.store;
      const envelopes = await readEnvelopes(reader, stored);
      const locks = this.#active.lock(id, envelopes);
      try {
        const due = envelopes.filter((envelope, i) =>
          !locks[i]!.taken && envelope.recipients.some(wantsDelay)
        );
        if (due.length === 0) return;
        const header = await readHeader(readBody(reader, stored), REPORT_HEADER_MAX);
        for (const part of reportParts(due)) await this.#reportDelay(stored.message, part, header);
      } finally {
        this.#active.unlock(id, envelopes);
        for (const { queue, band, at } of envelopes) this.#active.noteDue(queue, shard, band, at);
      }
    });
  }

  async #reportDelay(message: Message, envelopes: readonly Envelope[], header: string): Promise<void> {
    const shard = shardOfMessage(message.id);
    const now = this.#context.clock.now();
    const reportables = envelopes.flatMap(({ recipients }) => recipients.filter(wantsDelay)).map(delayReport);
    const reports = makeReports(this.#context, message, reportables, { header, now });
    const mutations: Mutation[] = envelopes.flatMap((envelope) => told(envelope));
    for (const report of reports) {
      mutations.push(...report.mutations);
      const { queue, at } = report.envelope;
      mutations.push({ key: keys.agenda(shard, at, queue), value: new Uint8Array(0) });
    }
    await commit(this.#context, {
      shard,
      mutations,
      fenced: true,
      entries: reports.map(({ event }) => event),
      counts: { [COUNTERS.messages]: reports.length, [COUNTERS.recipients]: reports.length },
    });
    for (const { envelope } of reports) {
      this.#active.noteDue(envelope.queue, shard, envelope.band, envelope.at);
    }
  }

  /** Removes log blocks and kept messages beyond their age or their size. */
  async #prune(shard: number): Promise<void> {
    const { clock, settings, session } = this.#context;
    const now = clock.now();
    const share = Math.max(1, session.owned.size);
    await this.#pruneLog(shard, now - settings.history, settings.historySize / share);
    const { deadLetters, deadLettersSize } = settings;
    await this.#pruneKept(shard, "dead", now - deadLetters, deadLettersSize / share, COUNTERS.deadBytes);
    await this.#pruneKept(
      shard,
      "captured",
      now - deadLetters,
      deadLettersSize / share,
      COUNTERS.capturedBytes,
    );
  }

  async #pruneLog(shard: number, before: number, size: number): Promise<void> {
    const { store, journal, writer } = this.#context;
    let excess = journal.count(shard, LOG_BYTES) - size;
    const doomed: Mutation[] = [];
    let bytes = 0;
    const end = idAt(before);
    for await (
      const { key, value } of store.reader.list<Uint8Array>({ prefix: ["log", shard] }, { limit: BATCH })
    ) {
      if (String(key[2]) >= end && excess <= 0) break;
      doomed.push({ key });
      bytes += value.length;
      excess -= value.length;
    }
    if (doomed.length === 0) return;
    await writer.commit({ shard, mutations: doomed, fenced: true, counts: { [LOG_BYTES]: -bytes } });
  }

  async #pruneKept(
    shard: number,
    kind: "dead" | "captured",
    before: number,
    size: number,
    counter: string,
  ): Promise<void> {
    const { store, journal } = this.#context;
    let excess = journal.count(shard, counter) - size;
    const range = { prefix: ["kept", kind, shard] };
    for await (const { value } of store.reader.list(range, { limit: BATCH, batchSize: 20 })) {
      const found = decodeKept(value);
      if (found.kept.keptAt >= before && excess <= 0) break;
      excess -= found.kept.message.size;
      const live = await readMessage(store.reader, found.kept.message.id) !== undefined;
      await purgeKept(this.#context, { kind, ...found }, undefined, live);
    }
  }

  /** Removes chunks and envelopes of uploads that were never finished, and of deletions that were cut short. */
  async #orphans(shard: number): Promise<void> {
    const { store, clock } = this.#context;
    const end = keys.upload(shard, idAt(clock.now() - UPLOAD_TIMEOUT, shard));
    for await (const { key } of store.reader.list({ prefix: ["up", shard], end }, { limit: BATCH })) {
      const id = String(key[2]);
      const needed = await readMessage(store.reader, id) ?? await findKept(store.reader, id);
      const doomed: Mutation[] = [];
      if (!needed) {
        for (const prefix of [["b", shard, id], ["e", shard, id]]) {
          for await (const row of store.reader.list({ prefix })) doomed.push({ key: row.key });
        }
      }
      await deleteAll(this.#context, shard, [...doomed, { key }]);
    }
  }
}

/** Envelopes in groups that one report has room for: a hundred recipients, like an envelope. */
function reportParts(envelopes: readonly Envelope[]): Envelope[][] {
  const parts: Envelope[][] = [];
  let count = Infinity;
  for (const envelope of envelopes) {
    count += envelope.recipients.length;
    if (count > 100) {
      parts.push([]);
      count = envelope.recipients.length;
    }
    parts.at(-1)!.push(envelope);
  }
  return parts;
}

function wantsDelay(recipient: Recipient): boolean {
  return recipient.notify?.delay === true && !recipient.delayNotified && recipient.status !== "held";
}

function delayReport(recipient: Recipient): Reportable {
  const outcome: Outcome = {
    kind: "deferred",
    scope: "recipient",
    reply: recipient.lastReply ?? "not tried yet: earlier mail for this destination is still waiting",
    status: "4.4.7",
    fromRemote: isSmtpReply(recipient.lastReply),
    ...(recipient.lastMx ? { remoteMta: recipient.lastMx } : {}),
  };
  return { recipient, action: "delayed", outcome };
}

function told(envelope: Envelope): Mutation[] {
  const recipients = envelope.recipients.map((recipient): Recipient =>
    wantsDelay(recipient) ? { ...recipient, delayNotified: true } : recipient
  );
  return [setEnvelope({ ...envelope, recipients }), setDue(envelope, true)];
}

/** Fails everyone still open in a message whose queue lifetime has ended. */
async function expireMessage(
  context: QueueContext,
  active: ActiveQueues,
  settle: Settle,
  stored: StoredMessage,
): Promise<void> {
  const { id } = stored.message;
  const envelopes = await readEnvelopes(context.store.reader, stored);
  const locks = active.lock(id, envelopes);
  try {
    for (const [i, envelope] of envelopes.entries()) {
      if (locks[i]!.taken) continue;
      const ready: ReadyEnvelope = {
        message: stored.message,
        envelope,
        shard: shardOfMessage(id),
        ownRow: true,
        bytes: stored.message.report ? undefined : stored.body?.slice(),
        chunks: stored.chunks,
      };
      await settle.expire(ready);
    }
  } finally {
    active.unlock(id, envelopes);
  }
}
