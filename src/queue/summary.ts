/** Figures of the whole queue, from its rows: they are true whoever asks and whatever is in memory. */
import { SHARDS } from "../kv/keys.ts";
import { timeOf } from "../kv/ids.ts";
import { decodeRecord } from "../kv/record.ts";
import { keys } from "../kv/keys.ts";
import type { Clock } from "../platform/clock.ts";
import { COUNTERS } from "./context.ts";
import { readMessage } from "./body.ts";
import { readEnvelopes } from "./read.ts";
import type { NodeStatus } from "./status.ts";

/** Waiting mail of one next hop. */
export interface QueueFigures {
  queue: string;
  /** Due later. */
  scheduled: number;
  /** Due, waiting for room. */
  ready: number;
  inFlight: number;
  held: number;
  /** Queue id of its oldest message. */
  oldest: string | undefined;
}

/** Figures of the whole queue. */
export interface Figures {
  readonly counts: Readonly<Record<string, number>>;
  readonly queues: ReadonlyMap<string, QueueFigures>;
  readonly oldest: string | undefined;
}

/** A scan of a large queue takes seconds, so its result serves again for this many times as long as it took. */
const CACHE_FACTOR = 5;

/** Counts due rows by queue; answers from the last scan while that is fresh. */
export class Summary {
  readonly #kv: Deno.Kv;
  readonly #clock: Clock;
  #last: { figures: Figures; until: number } | undefined;
  #running: Promise<Figures> | undefined;

  constructor(kv: Deno.Kv, clock: Clock) {
    this.#kv = kv;
    this.#clock = clock;
  }

  /** Current figures. */
  async read(): Promise<Figures> {
    if (this.#last && this.#clock.monotonic() < this.#last.until) return this.#last.figures;
    this.#running ??= this.#scan().finally(() => this.#running = undefined);
    return await this.#running;
  }

  async #scan(): Promise<Figures> {
    const began = this.#clock.monotonic();
    const queues = new Map<string, QueueFigures>();
    const figures = (queue: string) => {
      let found = queues.get(queue);
      if (!found) {
        found = { queue, scheduled: 0, ready: 0, inFlight: 0, held: 0, oldest: undefined };
        queues.set(queue, found);
      }
      return found;
    };
    const now = this.#clock.now();
    for await (const { key } of this.#kv.list({ prefix: ["d"] }, { batchSize: 1000 })) {
      const each = figures(String(key[2]));
      if (Number(key[4]) > now) each.scheduled++;
      else each.ready++;
      const id = String(key[5]);
      if (each.oldest === undefined || timeOf(id) < timeOf(each.oldest)) each.oldest = id;
    }
    await this.#addInFlight(figures);
    let oldest: string | undefined;
    for (const each of queues.values()) {
      if (each.oldest && (!oldest || timeOf(each.oldest) < timeOf(oldest))) oldest = each.oldest;
    }
    const result = { counts: await this.#counts(), queues, oldest };
    const end = this.#clock.monotonic();
    this.#last = { figures: result, until: end + CACHE_FACTOR * (end - began) };
    return result;
  }

  /** What is in flight is due in the store too: nodes publish it, and it is taken from `ready`. */
  async #addInFlight(figures: (queue: string) => QueueFigures): Promise<void> {
    for await (const { value } of this.#kv.list({ prefix: ["status"] })) {
      const status = decodeRecord<NodeStatus>(value).value;
      if (this.#clock.now() - status.at > 10_000) continue;
      for (const { queue, inFlight } of status.queues) {
        const each = figures(queue);
        const moved = Math.min(inFlight, each.ready);
        each.ready -= moved;
        each.inFlight += moved;
      }
    }
  }

  async #counts(): Promise<Record<string, number>> {
    const totals: Record<string, number> = {};
    for (const name of Object.values(COUNTERS)) totals[name] = 0;
    for (let s = 0; s < SHARDS; s++) {
      const { value } = await this.#kv.get(keys.counters(s));
      if (value === null) continue;
      const counts = decodeRecord<Record<string, number>>(value).value;
      for (const name of Object.values(COUNTERS)) totals[name]! += counts[name] ?? 0;
    }
    // Accepted elsewhere and not taken over yet: counted by its owner in a moment.
    for await (const _ of this.#kv.list({ prefix: ["in"] }, { limit: 1000 })) totals[COUNTERS.messages]!++;
    return totals;
  }
}

/** Last reply seen by the message `id`, for one line of the queue's table. */
export async function lastReplyOf(kv: Deno.Kv, id: string, queue: string): Promise<string | undefined> {
  const stored = await readMessage(kv, id);
  if (!stored) return undefined;
  const envelopes = await readEnvelopes(kv, stored);
  const envelope = envelopes.find((each) => each.queue === queue);
  return envelope?.recipients.find((recipient) => recipient.lastReply !== undefined)?.lastReply;
}
