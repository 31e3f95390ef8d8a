/** Takes over what other processes accepted into our shards: writes the due rows they may not write. */
import { keys } from "../kv/keys.ts";
import type { Mutation } from "../kv/writer.ts";
import { newMessageCounts } from "./accept.ts";
import type { ActiveQueues } from "./active.ts";
import { readMessage } from "./body.ts";
import { commit, type QueueContext } from "./context.ts";
import { readEnvelopes } from "./read.ts";
import { setDue, shardOfMessage } from "./rows.ts";

/** Envelopes whose due rows go into one atomic: a due and an agenda row each. */
const ENVELOPES_PER_JOB = 150;

/** Ingests what waits for us, oldest first; returns how many messages that were. */
export async function ingest(context: QueueContext, active: ActiveQueues): Promise<number> {
  const { store, session, log } = context;
  const jobs: Promise<void>[] = [];
  for await (const { key } of store.reader.list({ prefix: ["in"] }, { limit: 500, batchSize: 500 })) {
    if (!session.owned.has(Number(key[1]))) continue;
    jobs.push(
      ingestMessage(context, active, String(key[2])).catch((error) =>
        log.error("ingest failed", {
          id: String(key[2]),
          error: error instanceof Error ? error.message : `${error}`,
        })
      ),
    );
  }
  await Promise.all(jobs);
  return jobs.length;
}

async function ingestMessage(context: QueueContext, active: ActiveQueues, id: string): Promise<void> {
  const shard = shardOfMessage(id);
  const done: Mutation = { key: keys.incoming(shard, id) };
  const stored = await readMessage(context.store.reader, id);
  if (!stored) return await commit(context, { shard, mutations: [done], fenced: true });
  const envelopes = await readEnvelopes(context.store.reader, stored);
  const ownRow = stored.envelope === undefined;
  for (let i = 0; i < envelopes.length; i += ENVELOPES_PER_JOB) {
    const part = envelopes.slice(i, i + ENVELOPES_PER_JOB);
    const last = i + ENVELOPES_PER_JOB >= envelopes.length;
    const mutations = part.flatMap((envelope) => [
      setDue(envelope, ownRow),
      { key: keys.agenda(shard, envelope.at, envelope.queue), value: new Uint8Array(0) },
    ]);
    if (last) mutations.push(done);
    await commit(context, {
      shard,
      mutations,
      fenced: true,
      ...(last ? { counts: newMessageCounts(envelopes) } : {}),
    });
  }
  // Only now: nothing may be delivered, and its rows removed, while we are still writing due rows from our list.
  for (const { queue, band, at } of envelopes) active.noteDue(queue, shard, band, at);
}
