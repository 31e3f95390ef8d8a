/** Dead letters: sent once more, or removed, by order of an operator. */
import { keys } from "../kv/keys.ts";
import type { Mutation } from "../kv/writer.ts";
import type { ActiveQueues } from "./active.ts";
import { newMessageCounts } from "./accept.ts";
import { readMessage } from "./body.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import { envelopesOf } from "./envelopes.ts";
import type { Message, Recipient } from "./model.ts";
import type { Order } from "./order.ts";
import { deleteAll } from "./remove.ts";
import {
  decodeKept,
  deleteChunks,
  fitsInMessage,
  type KeptKind,
  type KeptMessage,
  setDue,
  setEnvelope,
  setMessage,
  shardOfMessage,
} from "./rows.ts";

/** A kept message, and where it lies. */
export interface FoundKept {
  readonly kind: KeptKind;
  readonly kept: KeptMessage;
  readonly body?: Uint8Array;
}

/** The kept message `id`; undefined where there is none. */
export async function findKept(kv: Deno.Kv, id: string): Promise<FoundKept | undefined> {
  for (const kind of ["dead", "captured"] as const) {
    const { value } = await kv.get(keys.kept(kind, shardOfMessage(id), id));
    if (value !== null) return { kind, ...decodeKept(value) };
  }
  return undefined;
}

/** Puts a dead letter's recipients back into the queue with a new lifetime, or removes it (order `purge`). */
export async function requeueKept(
  context: QueueContext,
  active: ActiveQueues,
  order: Order,
  done: Mutation,
): Promise<void> {
  const { id } = order;
  const shard = shardOfMessage(id);
  const found = await findKept(context.store.reader, id);
  // While other recipients are still being tried, the message row stands and there is nothing to put back yet.
  const live = await readMessage(context.store.reader, id) !== undefined;
  if (!found || (live && order.kind === "replay")) {
    return await commit(context, { shard, mutations: [done], fenced: true });
  }
  if (order.kind === "purge") return await purgeKept(context, found, done, live);
  const now = context.clock.now();
  const recipients = found.kept.recipients.filter(({ status }) => status !== "delivered")
    .map(({ address, orcpt }): Recipient => ({
      address,
      ...(orcpt ? { orcpt } : {}),
      status: "queued",
      attempts: 0,
    }));
  const envelopes = envelopesOf(id, recipients, context.routing, { band: 5, at: now });
  const message: Message = {
    ...found.kept.message,
    expiresAt: now + context.settings.queueLifetime,
    envelopes: envelopes.length,
  };
  const ownRow = envelopes.length > 1 || !fitsInMessage(envelopes[0]!, found.body);
  const mutations: Mutation[] = [
    done,
    { key: keys.kept(found.kind, shard, id) },
    setMessage(message, ownRow ? undefined : envelopes[0], found.body, found.kept.chunks),
  ];
  for (const envelope of envelopes) {
    if (ownRow) mutations.push(setEnvelope(envelope));
    mutations.push(setDue(envelope, ownRow));
    mutations.push({ key: keys.agenda(shard, now, envelope.queue), value: new Uint8Array(0) });
  }
  await commit(context, {
    shard,
    mutations,
    fenced: true,
    entries: [{ type: "retried", at: now, id, to: recipients.map(({ address }) => address), by: order.by }],
    counts: { ...newMessageCounts(envelopes), ...keptCounts(found, -1) },
  });
  for (const envelope of envelopes) active.noteDue(envelope.queue, shard, envelope.band, envelope.at);
}

/** Removes a kept message; its chunks stay while the message itself is still in the queue (`live`). */
export async function purgeKept(
  context: QueueContext,
  found: FoundKept,
  done: Mutation | undefined,
  live: boolean,
): Promise<void> {
  const { id } = found.kept.message;
  const shard = shardOfMessage(id);
  const mutations: Mutation[] = [...(done ? [done] : []), { key: keys.kept(found.kind, shard, id) }];
  const chunks = live ? 0 : found.kept.chunks;
  if (chunks > 0) mutations.push({ key: keys.upload(shard, id), value: new Uint8Array(0) });
  await commit(context, { shard, mutations, fenced: true, counts: keptCounts(found, -1) });
  if (chunks > 0) {
    await deleteAll(context, shard, [...deleteChunks(id, 0, chunks), { key: keys.upload(shard, id) }]);
  }
}

function keptCounts({ kind, kept }: FoundKept, sign: number): Record<string, number> {
  return kind === "dead"
    ? { [COUNTERS.dead]: sign, [COUNTERS.deadBytes]: sign * kept.message.size }
    : { [COUNTERS.captured]: sign, [COUNTERS.capturedBytes]: sign * kept.message.size };
}
