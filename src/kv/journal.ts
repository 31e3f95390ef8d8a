/** The event log and the counters: both are written in the same atomic as the change they tell of. */
import { decodeRecord, encodeRecord } from "./record.ts";
import { keys } from "./keys.ts";
import type { IdSource } from "./ids.ts";
import type { Job, Journal, Mutation, Sealed } from "./writer.ts";

/** A block stays well under the 64 KiB a value may have. */
const MAX_BLOCK = 48_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Counters of one shard. Absolute, so that a commit that is repeated does no harm. */
export type ShardCounts = Record<string, number>;

/** Bytes of the log itself, counted with the rest so that its size can be bounded. */
export const LOG_BYTES = "logBytes";

/** Event blocks per shard and the counters of the shards we own. */
export class EventJournal<E> implements Journal<E> {
  readonly #ids: IdSource;
  readonly #now: () => number;
  readonly #counts = new Map<number, ShardCounts>();

  constructor(ids: IdSource, now: () => number) {
    this.#ids = ids;
    this.#now = now;
  }

  /** Takes over the counters of a shard that is ours from now on. */
  load(shard: number, counts: ShardCounts): void {
    this.#counts.set(shard, { ...counts });
  }

  /** Forgets the counters of shards that are not ours any more. */
  forget(): void {
    this.#counts.clear();
  }

  /** One counter, summed over the shards we own. */
  total(name: string): number {
    let sum = 0;
    for (const counts of this.#counts.values()) sum += counts[name] ?? 0;
    return sum;
  }

  /** A counter of one shard. */
  count(shard: number, name: string): number {
    return this.#counts.get(shard)?.[name] ?? 0;
  }

  seal(jobs: readonly Job<E>[]): Sealed {
    const mutations: Mutation[] = [];
    const undo: [ShardCounts, string, number][] = [];
    const texts = new Map<number, string[]>();
    const touched = new Set<number>();
    const add = (shard: number, name: string, amount: number) => {
      const counts = this.#counts.get(shard);
      if (!counts) return;
      counts[name] = (counts[name] ?? 0) + amount;
      undo.push([counts, name, amount]);
      touched.add(shard);
    };
    for (const { shard, entries, counts } of jobs) {
      if (entries && entries.length > 0) {
        let lines = texts.get(shard);
        if (!lines) texts.set(shard, lines = []);
        for (const entry of entries) lines.push(JSON.stringify(entry));
      }
      for (const name in counts) add(shard, name, counts[name]!);
    }
    for (const [shard, lines] of texts) {
      for (const block of blocks(lines)) {
        mutations.push({ key: keys.log(shard, this.#ids.stamp(this.#now())), value: block });
        add(shard, LOG_BYTES, block.length);
      }
    }
    for (const shard of touched) {
      mutations.push({ key: keys.counters(shard), value: encodeRecord(this.#counts.get(shard)) });
    }
    return {
      mutations,
      undo: () => {
        for (const [counts, name, amount] of undo) counts[name]! -= amount;
      },
    };
  }
}

/** Lines of JSON as one or more block values. */
function blocks(lines: readonly string[]): Uint8Array[] {
  const found: Uint8Array[] = [];
  let text = "";
  for (const line of lines) {
    // Three bytes a character at most; one line alone may be larger than a block, and then has its own.
    if (
      text && (text.length + line.length) * 3 > MAX_BLOCK && byteLength(text) + byteLength(line) > MAX_BLOCK
    ) {
      found.push(encodeRecord(0, encoder.encode(text)));
      text = "";
    }
    text += line + "\n";
  }
  if (text) found.push(encodeRecord(0, encoder.encode(text)));
  return found;
}

function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** Text of a block: one JSON entry a line. Search it before parsing it. */
export function blockText(value: unknown): string {
  return decoder.decode(decodeRecord(value).body);
}

/** Entries of a block's text for which `wanted` says yes to their line. */
export function blockEntries<E>(text: string, wanted: (line: string) => boolean = () => true): E[] {
  const entries: E[] = [];
  for (const line of text.split("\n")) {
    if (line && wanted(line)) entries.push(JSON.parse(line) as E);
  }
  return entries;
}
