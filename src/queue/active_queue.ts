/**
 * One queue in memory: what of it is at hand, and, for each shard, what of it lies in the store. A queue is in
 * memory only while it has something due; it costs the same whatever its backlog is.
 */
import type { Envelope, Message, QueueName } from "./model.ts";

/** An envelope at hand, with its message. */
export interface ReadyEnvelope {
  readonly message: Message;
  readonly envelope: Envelope;
  readonly shard: number;
  /** Whether the envelope has a row of its own. */
  readonly ownRow: boolean;
  /** The whole content, where it is small and the byte budget allowed it. */
  readonly bytes: Uint8Array | undefined;
  readonly chunks: number;
}

/** A place in the order of a queue: by band, then time. */
export interface Place {
  readonly band: number;
  readonly at: number;
}

/** The part of a queue that lies in one shard. */
export interface Slot {
  readonly shard: number;
  /** Agenda rows known to be in the store; all are behind us and go when the slot closes. */
  readonly agenda: Set<number>;
  /** Due rows lie in the store that are not in memory; the first of them is not before this place. */
  head: Place | undefined;
  /** The earliest due row after now that we know of. */
  nextAt: number;
  /** Envelopes of this slot that are ready, in flight or being settled. */
  busy: number;
  /** Due rows of envelopes in memory; loads skip them. */
  readonly inMemory: Set<string>;
}

/** Anything from the very start. */
export const FIRST_PLACE: Place = { band: 0, at: 0 };

/** Negative when `a` goes before `b`. */
export function comparePlaces(a: Place, b: Place): number {
  return a.band - b.band || a.at - b.at;
}

/** State of one queue in memory. */
export class ActiveQueue {
  readonly slots = new Map<number, Slot>();
  #ready: ReadyEnvelope[] = [];
  #first = 0;
  loading = false;
  /** Monotonic milliseconds; before it nothing of this queue is handed out. */
  pausedUntil = 0;
  /** Monotonic milliseconds of the last time something happened. */
  touchedAt = 0;

  constructor(readonly name: QueueName) {}

  /** Envelopes at hand. */
  get readyCount(): number {
    return this.#ready.length - this.#first;
  }

  /** Envelopes ready, in flight or being settled. */
  get busy(): number {
    let busy = 0;
    for (const slot of this.slots.values()) busy += slot.busy;
    return busy;
  }

  slot(shard: number): Slot {
    let slot = this.slots.get(shard);
    if (!slot) {
      slot = { shard, agenda: new Set(), head: undefined, nextAt: Infinity, busy: 0, inMemory: new Set() };
      this.slots.set(shard, slot);
    }
    return slot;
  }

  /** Whether due rows lie in the store that are not in memory. */
  get hasStored(): boolean {
    for (const slot of this.slots.values()) if (slot.head) return true;
    return false;
  }

  /** Notes that a due row at `place` lies in the store. */
  noteStored(shard: number, place: Place): void {
    const slot = this.slot(shard);
    if (!slot.head || comparePlaces(place, slot.head) < 0) slot.head = place;
  }

  /** The slot whose stored rows come first, and the place up to which they surely do. */
  firstStored(): { slot: Slot; until: Place | undefined } | undefined {
    let slot: Slot | undefined;
    let until: Place | undefined;
    for (const each of this.slots.values()) {
      if (!each.head) continue;
      if (!slot || comparePlaces(each.head, slot.head!) < 0) {
        until = slot?.head;
        slot = each;
      } else if (!until || comparePlaces(each.head, until) < 0) until = each.head;
    }
    return slot && { slot, until };
  }

  /** Puts an envelope at hand, in its place. */
  push(ready: ReadyEnvelope): void {
    const list = this.#ready;
    let i = list.length;
    while (i > this.#first && compareReady(list[i - 1]!, ready) > 0) i--;
    if (i === list.length) list.push(ready);
    else list.splice(i, 0, ready);
  }

  /** Takes the first envelope at hand. */
  shift(): ReadyEnvelope | undefined {
    const ready = this.#ready[this.#first];
    if (!ready) return undefined;
    this.#first++;
    if (this.#first > 64 && this.#first * 2 > this.#ready.length) {
      this.#ready = this.#ready.slice(this.#first);
      this.#first = 0;
    }
    return ready;
  }

  /** Takes out every envelope at hand for which `wanted` says yes. */
  remove(wanted: (ready: ReadyEnvelope) => boolean): ReadyEnvelope[] {
    const rest: ReadyEnvelope[] = [];
    const removed: ReadyEnvelope[] = [];
    for (let i = this.#first; i < this.#ready.length; i++) {
      const ready = this.#ready[i]!;
      (wanted(ready) ? removed : rest).push(ready);
    }
    this.#ready = rest;
    this.#first = 0;
    return removed;
  }
}

function compareReady(a: ReadyEnvelope, b: ReadyEnvelope): number {
  return comparePlaces(a.envelope, b.envelope) || (a.message.id < b.message.id ? -1 : 1);
}
