/**
 * The queues that have something due, in memory: filled from the agenda and by what was just accepted, emptied by
 * the delivery side, bounded in count and bytes. Everything here can be lost: the rows in the store say it all.
 */
import { keys } from "../kv/keys.ts";
import type { Mutation } from "../kv/writer.ts";
import type { Envelope, QueueName } from "./model.ts";
import { ActiveQueue, FIRST_PLACE, type ReadyEnvelope, type Slot } from "./active_queue.ts";
import type { QueueContext } from "./context.ts";
import { loadDue } from "./load.ts";
import { envelopeKey } from "./rows.ts";

/** Queues in memory at most; further ones wait in the agenda. */
const MAX_QUEUES = 20_000;
/**
 * Envelopes at hand at most: of all queues, of one, and of one while half of the room is taken, so that queues whose
 * hosts are slow do not take all of it.
 */
const MAX_READY = 20_000;
const MAX_READY_PER_QUEUE = 10_000;
const FAIR_SHARE = 50;
/** An idle queue stays this long, so that steady traffic does not write agenda rows for each message. */
const LINGER = 5_000;
/** Agenda rows read in one go. */
const AGENDA_BATCH = 500;
/** A queue that is being served is loaded this many times ahead of what its lane can use at once. */
const LOAD_AHEAD = 5;
/** Loads from the store at one time, so that live mail's own reads are not stuck behind a backlog's. */
const MAX_LOADS = 8;

/** Where the agenda of one shard has been read up to. */
interface AgendaCursor {
  /** False until it was looked at once: what comes first is not known before. */
  read: boolean;
  after: Deno.KvKey | undefined;
  /** Earliest agenda row not read yet that we know of. */
  nextAt: number;
}

/** The queues in memory. */
export class ActiveQueues {
  readonly #context: QueueContext;
  readonly #queues = new Map<QueueName, ActiveQueue>();
  readonly #agenda = new Map<number, AgendaCursor>();
  /** Envelopes an order (hold, delete …) is being applied to. */
  readonly #locked = new Set<string>();
  #listener: (queue: QueueName) => void = () => {};
  #readyCount = 0;
  #readyBytes = 0;
  #inFlight = 0;
  #loads = 0;
  #scanning = false;
  /** Shards are ours whose agenda was not looked at yet: nothing is handed out, so that order holds. */
  #unread = false;
  #pendingLoads: [ActiveQueue, number][] = [];

  constructor(context: QueueContext) {
    this.#context = context;
  }

  get counts(): { queues: number; ready: number; readyBytes: number; inFlight: number } {
    return {
      queues: this.#queues.size,
      ready: this.#readyCount,
      readyBytes: this.#readyBytes,
      inFlight: this.#inFlight,
    };
  }

  /** Ready and in flight, by queue, for what the node publishes about itself. */
  *perQueue(): Iterable<{ queue: QueueName; ready: number; inFlight: number; paused: boolean }> {
    const now = this.#context.clock.monotonic();
    for (const queue of this.#queues.values()) {
      const ready = queue.readyCount;
      yield { queue: queue.name, ready, inFlight: queue.busy - ready, paused: queue.pausedUntil > now };
    }
  }

  onReady(listener: (queue: QueueName) => void): void {
    this.#listener = listener;
  }

  /** New shards: their whole agenda is unread. */
  gained(shards: readonly number[]): void {
    for (const s of shards) this.#agenda.set(s, { read: false, after: undefined, nextAt: 0 });
    this.#unread = true;
  }

  /** Our fence fell: nothing in memory is ours. */
  clear(): void {
    this.#queues.clear();
    this.#agenda.clear();
    this.#locked.clear();
    this.#pendingLoads = [];
    this.#readyCount = 0;
    this.#readyBytes = 0;
  }

  /**
   * Announces that `envelope` is about to be committed, due now. Returns the agenda row its commit must carry, or
   * undefined where one stands. Ends in `offer` after the commit, or in `retract` when it failed.
   */
  reserve(envelope: Envelope, shard: number): Mutation | undefined {
    const queue = this.#admit(envelope.queue);
    if (!queue) return agendaRow(shard, envelope.at, envelope.queue);
    queue.touchedAt = this.#context.clock.monotonic();
    const slot = queue.slot(shard);
    slot.busy++;
    // From here on a load leaves it alone, so that it never comes into memory twice.
    slot.inMemory.add(envelopeKey(envelope.id, envelope.n));
    if (slot.agenda.size > 0) return undefined;
    slot.agenda.add(envelope.at);
    return agendaRow(shard, envelope.at, envelope.queue);
  }

  /** Offers what was reserved and is durable now: to the ready list when nothing older waits in the store. */
  offer(ready: ReadyEnvelope): void {
    const { envelope, shard } = ready;
    const queue = this.#queues.get(envelope.queue);
    const slot = queue?.slots.get(shard);
    if (!queue || !slot?.inMemory.has(envelopeKey(envelope.id, envelope.n))) {
      // No room when it was reserved: its agenda row leads to it.
      this.noteAgenda(shard, envelope.at);
      return;
    }
    const size = ready.bytes?.length ?? 0;
    const share = this.#readyCount < MAX_READY / 2 ? MAX_READY_PER_QUEUE : FAIR_SHARE;
    const room = this.#readyCount < MAX_READY && queue.readyCount < share &&
      this.#readyBytes + size <= this.#context.settings.readyMemory;
    const paused = queue.pausedUntil > this.#context.clock.monotonic();
    if (queue.hasStored || queue.loading || paused || !room) {
      this.#release(ready, () => queue.noteStored(shard, envelope));
    } else {
      queue.push(ready);
      this.#readyCount++;
      this.#readyBytes += size;
    }
    this.#announce(queue);
  }

  /** What was reserved was not committed. */
  retract(envelope: Envelope, shard: number): void {
    const slot = this.#queues.get(envelope.queue)?.slots.get(shard);
    if (!slot?.inMemory.delete(envelopeKey(envelope.id, envelope.n))) return;
    slot.busy--;
    // Later commits may rely on the agenda row that this one carried: `tick` writes it again where it is wanted.
    slot.agenda.delete(envelope.at);
  }

  /** Takes the first envelope at hand; loads more where that runs low. */
  take(name: QueueName, want: number): ReadyEnvelope | undefined {
    const queue = this.#queues.get(name);
    if (!queue || this.#unread || queue.pausedUntil > this.#context.clock.monotonic()) return undefined;
    const ready = queue.shift();
    if (ready) {
      this.#readyCount--;
      this.#readyBytes -= ready.bytes?.length ?? 0;
      this.#inFlight++;
      queue.touchedAt = this.#context.clock.monotonic();
    }
    if (queue.readyCount < want && queue.hasStored) this.#load(queue, want);
    return ready;
  }

  hasWork(name: QueueName): boolean {
    const queue = this.#queues.get(name);
    if (!queue || queue.pausedUntil > this.#context.clock.monotonic()) return false;
    return queue.readyCount > 0 || queue.loading || queue.hasStored;
  }

  /** An envelope that was taken is done with; where `nextAt` is given, it is due again then. */
  finish(ready: ReadyEnvelope, nextAt?: number): void {
    this.#inFlight--;
    this.#release(ready, (slot) => {
      if (nextAt !== undefined) slot.nextAt = Math.min(slot.nextAt, nextAt);
    });
  }

  /** An envelope that was taken goes back as it was. */
  giveBack(ready: ReadyEnvelope): void {
    this.#inFlight--;
    this.#release(
      ready,
      () => this.#queues.get(ready.envelope.queue)?.noteStored(ready.shard, ready.envelope),
    );
  }

  /** Nothing of the queue is handed out for `ms`; what is at hand goes back to the store, where it is anyway. */
  pause(name: QueueName, ms: number): void {
    const queue = this.#queues.get(name);
    if (!queue) return;
    queue.pausedUntil = this.#context.clock.monotonic() + ms;
    for (const ready of queue.remove(() => true)) this.#drop(queue, ready);
  }

  /** Takes the envelopes of a message out of the ready lists and keeps loads from bringing them back. */
  lock(id: string, envelopes: readonly { n: number; queue: QueueName }[]): { n: number; taken: boolean }[] {
    return envelopes.map(({ n, queue: name }) => {
      const key = envelopeKey(id, n);
      const queue = this.#queues.get(name);
      this.#locked.add(key);
      if (!queue) return { n, taken: false };
      const [ready] = queue.remove((each) => each.message.id === id && each.envelope.n === n);
      if (ready) this.#drop(queue, ready);
      const slot = [...queue.slots.values()].find((each) => each.inMemory.has(key));
      return { n, taken: slot !== undefined };
    });
  }

  unlock(id: string, envelopes: readonly { n: number; queue: QueueName }[]): void {
    for (const { n } of envelopes) this.#locked.delete(envelopeKey(id, n));
  }

  /** A due row was written outside of accept and settle (an order, something ingested). */
  noteDue(queue: QueueName, shard: number, band: number, at: number): void {
    const active = this.#admit(queue);
    if (!active) {
      const cursor = this.#agenda.get(shard);
      if (cursor) cursor.nextAt = Math.min(cursor.nextAt, at);
      return;
    }
    active.noteStored(shard, { band, at });
    this.#announce(active);
  }

  /** An agenda row in the future was written. */
  noteAgenda(shard: number, at: number): void {
    const cursor = this.#agenda.get(shard);
    if (cursor) cursor.nextAt = Math.min(cursor.nextAt, at);
  }

  /** Looks at the time: reads the agenda, wakes and closes queues. Called a few times a second. */
  async tick(): Promise<void> {
    const now = this.#context.clock.now();
    const monotonic = this.#context.clock.monotonic();
    for (const queue of this.#queues.values()) this.#check(queue, now, monotonic);
    if (this.#scanning) return;
    this.#scanning = true;
    try {
      for (const [shard, cursor] of this.#agenda) {
        if (cursor.nextAt <= now) await this.#readAgenda(shard, cursor, now);
        cursor.read = true;
      }
      if (this.#unread) {
        this.#unread = [...this.#agenda.values()].some(({ read }) => !read);
        for (const queue of this.#queues.values()) this.#announce(queue);
      }
    } finally {
      this.#scanning = false;
    }
  }

  /** The queue in memory, made where there is room for it. */
  #admit(name: QueueName): ActiveQueue | undefined {
    let queue = this.#queues.get(name);
    if (!queue && this.#queues.size < MAX_QUEUES) {
      queue = new ActiveQueue(name);
      queue.touchedAt = this.#context.clock.monotonic();
      this.#queues.set(name, queue);
    }
    return queue;
  }

  #hold(queue: ActiveQueue, ready: ReadyEnvelope): void {
    const slot = queue.slot(ready.shard);
    const key = envelopeKey(ready.message.id, ready.envelope.n);
    if (slot.inMemory.has(key)) return;
    slot.busy++;
    slot.inMemory.add(key);
    queue.push(ready);
    this.#readyCount++;
    this.#readyBytes += ready.bytes?.length ?? 0;
  }

  /** Takes a ready envelope out of memory; it stays in the store. */
  #drop(queue: ActiveQueue, ready: ReadyEnvelope): void {
    this.#readyCount--;
    this.#readyBytes -= ready.bytes?.length ?? 0;
    this.#release(ready, () => queue.noteStored(ready.shard, ready.envelope));
  }

  #release(ready: ReadyEnvelope, then: (slot: Slot) => void): void {
    const queue = this.#queues.get(ready.envelope.queue);
    const slot = queue?.slots.get(ready.shard);
    if (!queue || !slot || !slot.inMemory.delete(envelopeKey(ready.message.id, ready.envelope.n))) return;
    slot.busy--;
    queue.touchedAt = this.#context.clock.monotonic();
    then(slot);
  }

  #announce(queue: ActiveQueue): void {
    if (this.#unread || queue.pausedUntil > this.#context.clock.monotonic()) return;
    if (queue.readyCount > 0 || queue.hasStored) this.#listener(queue.name);
  }

  #load(queue: ActiveQueue, want: number): void {
    if (queue.loading) return;
    queue.loading = true;
    if (this.#loads >= MAX_LOADS) this.#pendingLoads.push([queue, want]);
    else void this.#runLoad(queue, want);
  }

  async #runLoad(queue: ActiveQueue, want: number): Promise<void> {
    this.#loads++;
    try {
      const limit = want > 1 ? want * LOAD_AHEAD : 1;
      const budget = this.#context.settings.readyMemory - this.#readyBytes;
      const found = await loadDue(this.#context, queue, { limit, budget, locked: this.#locked });
      const live = this.#queues.get(queue.name) === queue;
      const paused = queue.pausedUntil > this.#context.clock.monotonic();
      for (const ready of found) {
        if (!live) break;
        if (paused || this.#locked.has(envelopeKey(ready.message.id, ready.envelope.n))) {
          queue.noteStored(ready.shard, ready.envelope);
        } else this.#hold(queue, ready);
      }
    } catch (error) {
      this.#context.log.error("load failed", {
        queue: queue.name,
        error: error instanceof Error ? error.message : String(error),
      });
      queue.pausedUntil = this.#context.clock.monotonic() + 1_000;
    } finally {
      queue.loading = false;
      this.#loads--;
      const next = this.#pendingLoads.shift();
      if (next) void this.#runLoad(...next);
      if (queue.readyCount > 0) this.#announce(queue);
    }
  }

  #check(queue: ActiveQueue, now: number, monotonic: number): void {
    for (const slot of queue.slots.values()) {
      if (slot.nextAt <= now) {
        queue.noteStored(slot.shard, FIRST_PLACE);
        slot.nextAt = Infinity;
      }
      if (slot.busy > 0 && slot.agenda.size === 0) void this.#repairAgenda(queue.name, slot, now);
    }
    if (queue.pausedUntil > monotonic) {
      // Where memory is short, a paused queue waits in the agenda.
      if (this.#queues.size > MAX_QUEUES / 2) this.#closeSlots(queue, now + queue.pausedUntil - monotonic);
    } else if (queue.readyCount > 0 || queue.hasStored) this.#announce(queue);
    else if (monotonic - queue.touchedAt > LINGER) this.#closeSlots(queue, undefined);
  }

  /** Writes the agenda of a queue that has nothing to do now and forgets it. */
  #closeSlots(queue: ActiveQueue, pausedUntil: number | undefined): void {
    if (queue.loading || queue.busy > 0) return;
    this.#queues.delete(queue.name);
    for (const slot of queue.slots.values()) {
      const nextAt = slot.head ? pausedUntil ?? this.#context.clock.now() : slot.nextAt;
      void this.#closeSlot(queue.name, slot, Math.ceil(nextAt));
    }
  }

  async #closeSlot(name: QueueName, slot: Slot, nextAt: number): Promise<void> {
    const { shard } = slot;
    const mutations: Mutation[] = [...slot.agenda].filter((at) => at !== nextAt)
      .map((at) => ({ key: keys.agenda(shard, at, name) }));
    if (nextAt !== Infinity) mutations.push(agendaRow(shard, nextAt, name));
    if (mutations.length === 0) return;
    try {
      await this.#context.writer.commit({ shard, mutations, fenced: true });
      if (nextAt !== Infinity) this.noteAgenda(shard, nextAt);
    } catch {
      // The rows still stand, but are behind the cursor: look at the queue again.
      const queue = this.#admit(name);
      for (const at of slot.agenda) queue?.slot(shard).agenda.add(at);
      queue?.noteStored(shard, FIRST_PLACE);
    }
  }

  async #repairAgenda(name: QueueName, slot: Slot, at: number): Promise<void> {
    slot.agenda.add(at);
    try {
      await this.#context.writer.commit({
        shard: slot.shard,
        mutations: [agendaRow(slot.shard, at, name)],
        fenced: true,
      });
    } catch {
      slot.agenda.delete(at);
    }
  }

  /** Brings the queues whose time has come into memory, as far as there is room. */
  async #readAgenda(shard: number, cursor: AgendaCursor, now: number): Promise<void> {
    const { reader } = this.#context.store;
    cursor.nextAt = Infinity;
    const start = cursor.after ? [...cursor.after, ""] : keys.agenda(shard, 0, "");
    let count = 0;
    const rows = reader.list({ prefix: ["a", shard], start }, { batchSize: 100 });
    for await (const { key } of rows) {
      const at = Number(key[2]);
      if (at > now || count === AGENDA_BATCH) {
        cursor.nextAt = Math.min(cursor.nextAt, at);
        return;
      }
      const queue = this.#admit(String(key[3]));
      if (!queue) {
        cursor.nextAt = Math.min(cursor.nextAt, now + 250);
        return;
      }
      cursor.after = key;
      count++;
      const slot = queue.slot(shard);
      // An agenda row that accept has just written tells nothing new.
      if (slot.agenda.has(at)) continue;
      slot.agenda.add(at);
      queue.noteStored(shard, FIRST_PLACE);
      this.#announce(queue);
    }
  }
}

function agendaRow(shard: number, at: number, queue: QueueName): Mutation {
  return { key: keys.agenda(shard, at, queue), value: new Uint8Array(0) };
}
