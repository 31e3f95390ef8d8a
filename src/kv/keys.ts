/**
 * Every key of the store, on one page. `s` is a shard, `id` a queue id, `q` a queue name, `n` an envelope number.
 * Which rows change together, and in what order, is told in docs/architecture.md.
 */

/** Shards of a store; fixed when it is first opened. */
export const SHARDS = 64;

export const keys = {
  /** Version and mode of the store. */
  schema: (): Deno.KvKey => ["schema"],
  /** A process's run: written once; whoever deletes it ends the run's right to write. */
  fence: (session: string): Deno.KvKey => ["fence", session],
  /** Its heartbeat. */
  beat: (session: string): Deno.KvKey => ["beat", session],
  /** The session that owns a shard. */
  shard: (s: number): Deno.KvKey => ["shard", s],
  /** Message, with its body up to 48 KiB and its only envelope while that was never deferred. */
  message: (s: number, id: string): Deno.KvKey => ["m", s, id],
  /** Body chunk. */
  chunk: (s: number, id: string, n: number): Deno.KvKey => ["b", s, id, n],
  /** Chunks of `id` are being written, or deleted: without a message row they are garbage. */
  upload: (s: number, id: string): Deno.KvKey => ["up", s, id],
  /** Envelope: all of a message with several, and the only one once it was deferred. */
  envelope: (s: number, id: string, n: number): Deno.KvKey => ["e", s, id, n],
  /** Due row: when an envelope is tried next. */
  due: (s: number, q: string, band: number, at: number, id: string, n: number): Deno.KvKey => //
  ["d", s, q, band, at, id, n],
  /** Agenda: queue `q` has something due at `at` (or had: a hint that may be early, never late). */
  agenda: (s: number, at: number, q: string): Deno.KvKey => ["a", s, at, q],
  /** Accepted by a process that does not own the shard. */
  incoming: (s: number, id: string): Deno.KvKey => ["in", s, id],
  /** An order to the shard's owner. */
  command: (s: number, seq: string): Deno.KvKey => ["cmd", s, seq],
  /** Counters of a shard, absolute. */
  counters: (s: number): Deno.KvKey => ["cnt", s],
  /** A block of events; `block` begins with its time. */
  log: (s: number, block: string): Deno.KvKey => ["log", s, block],
  /** A message that left the queue but is kept: a dead letter, or captured in dev mode. */
  kept: (kind: "dead" | "captured", s: number, id: string): Deno.KvKey => ["kept", kind, s, id],
  /** What a node publishes about itself. */
  status: (node: string): Deno.KvKey => ["status", node],
} as const;

/** Bytes a key takes in the store, at most (strings are escaped, numbers take 9). */
export function keySize(key: Deno.KvKey): number {
  let size = 0;
  for (const part of key) {
    size += typeof part === "string" ? 3 + part.length * (isLatin(part) ? 1 : 3) : 9;
  }
  return size;
}

function isLatin(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}
