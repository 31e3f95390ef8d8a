/** Reads due envelopes of one queue from the store, oldest first, within limits. */
import { keys } from "../kv/keys.ts";
import type { Envelope } from "./model.ts";
import {
  type ActiveQueue,
  comparePlaces,
  FIRST_PLACE,
  type ReadyEnvelope,
  type Slot,
} from "./active_queue.ts";
import type { QueueContext } from "./context.ts";
import { decodeDue, decodeEnvelope, decodeMessage, type DueRow, envelopeKey } from "./rows.ts";

/** Bounds of one load. */
export interface LoadLimits {
  /** Envelopes at most. */
  readonly limit: number;
  /** Bytes of bodies at most (one envelope always comes). */
  readonly budget: number;
  /** Envelopes that are not to be touched. */
  readonly locked: ReadonlySet<string>;
}

/** Reads at one time; the store answers one by one, but the round trips overlap. */
const PARALLEL_READS = 16;

/**
 * The next due envelopes of a queue that are not in memory yet. Moves the slots' `head` and `nextAt`; the caller
 * puts what comes back into memory before anything else happens to the queue.
 */
export async function loadDue(
  context: QueueContext,
  queue: ActiveQueue,
  limits: LoadLimits,
): Promise<ReadyEnvelope[]> {
  const found: ReadyEnvelope[] = [];
  let budget = limits.budget;
  await findHeads(context, queue);
  while (found.length < limits.limit && (found.length === 0 || budget > 0)) {
    const first = queue.firstStored();
    if (!first) break;
    const { slot, until } = first;
    const rows = await scanSlot(context, queue.name, slot, until, limits.limit - found.length, limits.locked);
    for (let i = 0; i < rows.length; i += PARALLEL_READS) {
      if (budget <= 0 && found.length > 0) {
        queue.noteStored(slot.shard, rows[i]!);
        break;
      }
      const part = rows.slice(i, i + PARALLEL_READS);
      for (
        const ready of await Promise.all(part.map((row) => readEnvelope(context, queue.name, slot, row)))
      ) {
        if (!ready) continue;
        found.push(ready);
        budget -= ready.bytes?.length ?? 0;
      }
    }
  }
  return found;
}

/** Where several shards have rows and it is not known which come first, looks. */
async function findHeads(context: QueueContext, queue: ActiveQueue): Promise<void> {
  const stored = [...queue.slots.values()].filter(({ head }) => head);
  if (stored.length < 2) return;
  await Promise.all(
    stored.filter(({ head }) => comparePlaces(head!, FIRST_PLACE) === 0).map(async (slot) => {
      const [row] = await scanSlot(context, queue.name, slot, undefined, 1, new Set());
      if (row) queue.noteStored(slot.shard, { band: row.band, at: row.at });
    }),
  );
}

/** Due rows of a slot from its head on, at most `limit`, none after `until` (another slot has older ones). */
async function scanSlot(
  context: QueueContext,
  name: string,
  slot: Slot,
  until: { band: number; at: number } | undefined,
  limit: number,
  locked: ReadonlySet<string>,
): Promise<DueRow[]> {
  const { reader } = context.store;
  const now = context.clock.now();
  const rows: DueRow[] = [];
  const head = slot.head!;
  slot.head = undefined;
  let start = keys.due(slot.shard, name, head.band, head.at, "", 0);
  const prefix = ["d", slot.shard, name];
  for (;;) {
    let jumped = false;
    for await (
      const { key, value } of reader.list({ prefix, start }, { batchSize: Math.min(limit + 1, 500) })
    ) {
      const row = decodeDue(key, value);
      if (row.at > now) {
        // The rest of this band is not due; a later band may be.
        slot.nextAt = Math.min(slot.nextAt, row.at);
        start = keys.due(slot.shard, name, row.band + 1, 0, "", 0);
        jumped = true;
        break;
      }
      if (rows.length === limit || (until && rows.length > 0 && comparePlaces(row, until) > 0)) {
        noteHead(slot, row);
        return rows;
      }
      const id = envelopeKey(row.id, row.n);
      if (!slot.inMemory.has(id) && !locked.has(id)) rows.push(row);
    }
    if (!jumped) return rows;
  }
}

function noteHead(slot: Slot, row: DueRow): void {
  // A row written during the scan may have set an earlier head.
  if (!slot.head || comparePlaces(slot.head, row) > 0) slot.head = { band: row.band, at: row.at };
}

/**
 * Reads one envelope with its message. All rows come from one snapshot, taken after the scan: a due row that was
 * settled in between is gone from it. Undefined for such a row, and for one whose message is gone, which is removed.
 */
async function readEnvelope(
  context: QueueContext,
  name: string,
  slot: Slot,
  row: DueRow,
): Promise<ReadyEnvelope | undefined> {
  const { reader } = context.store;
  const { shard } = slot;
  const due = keys.due(shard, name, row.band, row.at, row.id, row.n);
  const [dueEntry, messageEntry, envelopeEntry] = await reader.getMany([
    due,
    keys.message(shard, row.id),
    ...(row.ownRow ? [keys.envelope(shard, row.id, row.n)] : []),
  ]);
  if (!dueEntry || !messageEntry || dueEntry.value === null) return undefined;
  const stored = messageEntry.value === null ? undefined : decodeMessage(messageEntry.value);
  const own = row.ownRow ? envelopeEntry?.value ?? null : null;
  const envelope: Envelope | undefined = row.ownRow
    ? own === null ? undefined : decodeEnvelope(own)
    : stored?.envelope;
  if (!stored || !envelope || envelope.at !== row.at) {
    context.log.error("orphaned due row removed", { id: row.id, queue: name });
    await context.writer.commit({ shard, mutations: [{ key: due }], fenced: true });
    return undefined;
  }
  return {
    message: stored.message,
    envelope,
    shard,
    ownRow: row.ownRow,
    bytes: stored.message.report ? undefined : stored.body?.slice(),
    chunks: stored.chunks,
  };
}
