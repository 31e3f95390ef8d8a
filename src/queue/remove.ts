/** Takes a message out of the queue once nobody in it is open, and keeps what is to be looked at later. */
import { keys } from "../kv/keys.ts";
import { MAX_MUTATIONS, type Mutation } from "../kv/writer.ts";
import type { ReadyEnvelope } from "./active_queue.ts";
import { COUNTERS, type QueueContext } from "./context.ts";
import {
  decodeKept,
  decodeMessage,
  deleteChunks,
  jsonSize,
  type KeptKind,
  type KeptMessage,
  type KeptRecipient,
  ROW_MAX,
  setKept,
} from "./rows.ts";

/** Chunk rows deleted in the settling atomic itself; with more, the rest goes right after it. */
const MAX_CHUNKS_AT_ONCE = 200;

/** What a settle tells about the message. */
export interface Removal {
  /** The envelope has nobody open any more. */
  readonly last: boolean;
  /** Recipients to be kept as a dead letter or as captured. */
  readonly kept: { readonly kind: KeptKind; readonly recipients: readonly KeptRecipient[] };
  readonly now: number;
  /** The settle's mutations and counters, added to here. */
  readonly mutations: Mutation[];
  readonly counts: Record<string, number>;
}

/**
 * Adds what removes the message, if this was its last envelope, and what keeps it. Returns work to do after the
 * commit, where more chunks are to go than one atomic takes.
 */
export async function removeMessage(
  context: QueueContext,
  ready: ReadyEnvelope,
  removal: Removal,
): Promise<(() => Promise<void>) | undefined> {
  const { message, shard } = ready;
  const { id } = message;
  const { mutations, counts } = removal;
  const keeping = removal.kept.recipients.length > 0;
  const earlier = keeping || (message.envelopes > 1 && ready.chunks > 0)
    ? await readKept(context, shard, id)
    : undefined;
  if (keeping) await keep(context, ready, removal, earlier);
  if (!removal.last) return undefined;
  if (message.envelopes > 1 && await hasOtherEnvelopes(context, shard, id, ready.envelope.n)) {
    return undefined;
  }
  mutations.push({ key: keys.message(shard, id) });
  add(counts, COUNTERS.messages, -1);
  if (ready.chunks === 0 || keeping || earlier) return undefined;
  if (ready.chunks <= MAX_CHUNKS_AT_ONCE) {
    mutations.push(...deleteChunks(id, 0, ready.chunks));
    return undefined;
  }
  // Should we die in between, the mark leads the sweeper to what is left.
  mutations.push({ key: keys.upload(shard, id), value: new Uint8Array(0) });
  return () =>
    deleteAll(context, shard, [...deleteChunks(id, 0, ready.chunks), { key: keys.upload(shard, id) }]);
}

/** Deletes any number of rows, in several atomics where it takes them. */
export async function deleteAll(
  context: QueueContext,
  shard: number,
  doomed: readonly Mutation[],
): Promise<void> {
  for (let i = 0; i < doomed.length; i += MAX_MUTATIONS / 2) {
    await context.writer.commit({ shard, mutations: doomed.slice(i, i + MAX_MUTATIONS / 2), fenced: true });
  }
}

async function keep(
  context: QueueContext,
  ready: ReadyEnvelope,
  { kept: { kind, recipients }, now, mutations, counts }: Removal,
  earlier: KeptMessage | undefined,
): Promise<void> {
  const body = ready.chunks > 0 ? undefined : ready.bytes ?? await inlineBody(context, ready);
  const kept = withinRow(context, {
    message: ready.message,
    keptAt: now,
    recipients: [...earlier?.recipients ?? [], ...recipients],
    chunks: ready.chunks,
  }, body);
  mutations.push(setKept(kind, kept, body));
  if (earlier) return;
  add(counts, kind === "dead" ? COUNTERS.dead : COUNTERS.captured, 1);
  add(counts, kind === "dead" ? COUNTERS.deadBytes : COUNTERS.capturedBytes, ready.message.size);
}

/**
 * A kept message with as many recipients, first without their replies, as its row holds. Whoever is left out was told
 * by a report like everyone else, and history has them; only a replay misses them.
 */
function withinRow(context: QueueContext, kept: KeptMessage, body: Uint8Array | undefined): KeptMessage {
  const room = ROW_MAX - (body?.length ?? 0);
  if (jsonSize(kept) < room) return kept;
  const brief = { ...kept, recipients: kept.recipients.map((recipient) => ({ ...recipient, reply: "" })) };
  let count = brief.recipients.length;
  while (count > 0 && jsonSize({ ...brief, recipients: brief.recipients.slice(0, count) }) >= room) {
    count = Math.floor(count * 0.9);
  }
  if (count < brief.recipients.length) {
    context.log.warn("dead letter without some recipients", { id: kept.message.id, kept: count });
  }
  return { ...brief, recipients: brief.recipients.slice(0, count) };
}

async function inlineBody(context: QueueContext, ready: ReadyEnvelope): Promise<Uint8Array | undefined> {
  if (ready.message.report) return undefined;
  const { value } = await context.store.reader.get(keys.message(ready.shard, ready.message.id));
  return value === null ? undefined : decodeMessage(value).body;
}

async function readKept(context: QueueContext, shard: number, id: string): Promise<KeptMessage | undefined> {
  for (const kind of ["dead", "captured"] as const) {
    const { value } = await context.store.reader.get(keys.kept(kind, shard, id));
    if (value !== null) return decodeKept(value).kept;
  }
  return undefined;
}

async function hasOtherEnvelopes(
  context: QueueContext,
  shard: number,
  id: string,
  n: number,
): Promise<boolean> {
  for await (const { key } of context.store.reader.list({ prefix: ["e", shard, id] }, { limit: 2 })) {
    if (key[3] !== n) return true;
  }
  return false;
}

function add(counts: Record<string, number>, name: string, amount: number): void {
  counts[name] = (counts[name] ?? 0) + amount;
}
