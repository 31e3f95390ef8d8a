/** Reads the event log: what happened to a message, and which messages an address or a Message-ID was in. */
import { idAt, timeOf } from "../kv/ids.ts";
import { blockEntries, blockText } from "../kv/journal.ts";
import { keys, SHARDS } from "../kv/keys.ts";
import type { QueueEvent, ReceivedEvent } from "../telemetry/event.ts";
import { shardOfMessage } from "./rows.ts";

/** Clocks of two processes may differ by this much in what they write about one message, in milliseconds. */
const CLOCK_SKEW = 60_000;

/** Every event of message `id` that history still holds, oldest first. */
export async function eventsOf(kv: Deno.Kv, id: string): Promise<QueueEvent[]> {
  const shard = shardOfMessage(id);
  const start = keys.log(shard, idAt(timeOf(id) - CLOCK_SKEW));
  const mark = JSON.stringify(id);
  const events: QueueEvent[] = [];
  for await (const { value } of kv.list({ prefix: ["log", shard], start }, { batchSize: 200 })) {
    const text = blockText(value);
    if (!text.includes(mark)) continue;
    for (const event of blockEntries<QueueEvent>(text, (line) => line.includes(mark))) {
      if (event.id === id) events.push(event);
    }
  }
  return events.sort((a, b) => a.at - b.at);
}

/** Messages whose sender, recipients or Message-ID is `query` (any letter case), newest first. */
export async function findReceived(kv: Deno.Kv, query: string, limit: number): Promise<ReceivedEvent[]> {
  const wanted = query.replace(/^<|>$/g, "").toLowerCase();
  const part = JSON.stringify(wanted).slice(1, -1);
  const found: ReceivedEvent[] = [];
  for (let shard = 0; shard < SHARDS; shard++) {
    let count = 0;
    const blocks = kv.list({ prefix: ["log", shard] }, { reverse: true, batchSize: 200 });
    for await (const { value } of blocks) {
      const text = blockText(value);
      if (!text.toLowerCase().includes(part)) continue;
      const lines = blockEntries<QueueEvent>(text, (line) => line.toLowerCase().includes(part));
      for (const event of lines.reverse()) {
        if (event.type !== "received" || !concerns(event, wanted)) continue;
        found.push(event);
        count++;
      }
      if (count >= limit) break;
    }
  }
  return found.sort((a, b) => b.at - a.at).slice(0, limit);
}

function concerns(event: ReceivedEvent, wanted: string): boolean {
  return event.from.toLowerCase() === wanted || event.messageId?.toLowerCase() === wanted ||
    event.id === wanted || event.to.some((address) => address.toLowerCase() === wanted);
}
