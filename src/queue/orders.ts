/** Orders from the API: left in the store by anyone, applied by the shard's owner. */
import { keys } from "../kv/keys.ts";
import { decodeRecord } from "../kv/record.ts";
import type { Mutation } from "../kv/writer.ts";
import type { AdminEvent } from "../telemetry/event.ts";
import type { ActiveQueues } from "./active.ts";
import { readMessage } from "./body.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import type { Envelope, Recipient } from "./model.ts";
import type { Order } from "./order.ts";
import { readEnvelopes } from "./read.ts";
import { deleteAll } from "./remove.ts";
import { requeueKept } from "./replay.ts";
import {
  deleteChunks,
  deleteEnvelope,
  dueKey,
  setDue,
  setEnvelope,
  shardOfMessage,
  withoutHold,
} from "./rows.ts";
import type { Settle } from "./settle.ts";

/** Envelopes changed in one atomic: four rows each at most. */
const ENVELOPES_PER_JOB = 150;

/** Applies orders to the shards we own. */
export class Orders {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #settle: Settle;

  constructor(context: QueueContext, active: ActiveQueues, settle: Settle) {
    this.#context = context;
    this.#active = active;
    this.#settle = settle;
  }

  /** Applies what waits, oldest first; returns how many orders that were. */
  async poll(): Promise<number> {
    const { store, session, log } = this.#context;
    let count = 0;
    for await (const { key, value } of store.reader.list({ prefix: ["cmd"] }, { limit: 500 })) {
      const shard = Number(key[1]);
      if (!session.owned.has(shard)) continue;
      count++;
      try {
        await this.#apply(decodeRecord<Order>(value).value, { key });
      } catch (error) {
        log.error("order failed", { error: error instanceof Error ? error.message : String(error) });
      }
    }
    return count;
  }

  async #apply(order: Order, done: Mutation): Promise<void> {
    const { id, kind } = order;
    const shard = shardOfMessage(id);
    if (kind === "replay" || kind === "purge") {
      return await requeueKept(this.#context, this.#active, order, done);
    }
    await this.#settle.inTurn(id, async () => {
      const stored = await readMessage(this.#context.store.reader, id);
      const envelopes = stored ? await readEnvelopes(this.#context.store.reader, stored) : [];
      const locks = this.#active.lock(id, envelopes);
      try {
        const free = envelopes.filter((_, i) => !locks[i]!.taken);
        // What is in flight now obeys when its attempt ends.
        if (free.length < envelopes.length && (kind === "hold" || kind === "cancel")) {
          this.#settle.order(id, kind);
        }
        // A message may have more envelopes than one atomic has room for; what is done already is left alone when a
        // crash makes us begin again.
        for (let i = 0; i + ENVELOPES_PER_JOB < free.length; i += ENVELOPES_PER_JOB) {
          await this.#commitChange(shard, this.#change(order, free.slice(i, i + ENVELOPES_PER_JOB)));
        }
        const tail = free.length === 0
          ? 0
          : (Math.ceil(free.length / ENVELOPES_PER_JOB) - 1) * ENVELOPES_PER_JOB;
        const change = this.#change(order, free.slice(tail));
        const last = kind === "cancel" && stored !== undefined && free.length === envelopes.length;
        change.mutations.push(done);
        if (last) {
          change.mutations.push({ key: keys.message(shard, id) });
          this.#count(change, COUNTERS.messages, -1);
          if (stored.chunks > 0) {
            change.mutations.push({ key: keys.upload(shard, id), value: new Uint8Array(0) });
          }
        }
        await this.#commitChange(shard, change);
        if (last && stored.chunks > 0) {
          const doomed = deleteChunks(id, 0, stored.chunks);
          await deleteAll(this.#context, shard, [...doomed, { key: keys.upload(shard, id) }]);
        }
      } finally {
        this.#active.unlock(id, envelopes);
      }
    });
  }

  async #commitChange(shard: number, { mutations, events, counts, due }: Change): Promise<void> {
    await commit(this.#context, { shard, mutations, fenced: true, entries: events, counts });
    for (const { queue, band, at } of due) this.#active.noteDue(queue, shard, band, at);
  }

  #change(order: Order, envelopes: readonly Envelope[]): Change {
    const change: Change = { mutations: [], events: [], due: [], counts: {} };
    const now = this.#context.clock.now();
    for (const envelope of envelopes) {
      const held = envelope.recipients.some((recipient) => recipient.status === "held");
      switch (order.kind) {
        case "retry":
          if (!held) this.#reschedule(change, envelope, envelope.recipients, now);
          break;
        case "release":
          if (held) this.#reschedule(change, envelope, envelope.recipients.map(withoutHold), now);
          break;
        case "hold":
          if (!held) this.#hold(change, envelope);
          break;
        default:
          this.#cancel(change, envelope, held);
      }
    }
    const to = change.to?.flat() ?? [];
    if (to.length > 0) {
      const types = { retry: "retried", hold: "held", release: "released", cancel: "cancelled" } as const;
      const type = types[order.kind as keyof typeof types];
      change.events.push({ type, at: now, id: order.id, to, by: order.by });
    }
    return change;
  }

  #reschedule(change: Change, envelope: Envelope, recipients: readonly Recipient[], now: number): void {
    const held = envelope.recipients.filter((recipient) => recipient.status === "held").length;
    const next: Envelope = { ...envelope, recipients, at: now };
    change.mutations.push({ key: dueKey(envelope) }, setEnvelope(next), setDue(next, true));
    change.mutations.push({
      key: keys.agenda(shardOfMessage(next.id), now, next.queue),
      value: new Uint8Array(0),
    });
    this.#count(change, COUNTERS.held, -held);
    this.#tell(change, envelope);
    change.due.push(next);
  }

  #hold(change: Change, envelope: Envelope): void {
    const recipients = envelope.recipients.map((recipient): Recipient => ({ ...recipient, status: "held" }));
    change.mutations.push({ key: dueKey(envelope) }, setEnvelope({ ...envelope, recipients }));
    this.#count(change, COUNTERS.held, recipients.length);
    this.#tell(change, envelope);
  }

  #cancel(change: Change, envelope: Envelope, held: boolean): void {
    change.mutations.push({ key: dueKey(envelope) });
    // Whether it has a row of its own or not.
    change.mutations.push(deleteEnvelope(envelope));
    this.#count(change, COUNTERS.recipients, -envelope.recipients.length);
    if (held) this.#count(change, COUNTERS.held, -envelope.recipients.length);
    this.#tell(change, envelope);
  }

  #count(change: Change, name: string, amount: number): void {
    change.counts[name] = (change.counts[name] ?? 0) + amount;
  }

  #tell(change: Change, envelope: Envelope): void {
    (change.to ??= []).push(envelope.recipients.map(({ address }) => address));
  }
}

interface Change {
  readonly mutations: Mutation[];
  readonly events: AdminEvent[];
  readonly due: Envelope[];
  readonly counts: Record<string, number>;
  to?: string[][];
}
