/** Reads the open envelopes of a message. */
import { decodeEnvelope, shardOfMessage, type StoredMessage } from "./rows.ts";
import type { Envelope } from "./model.ts";

/**
 * Open envelopes in order. A row of its own goes before what the message row says: the message row keeps the only
 * envelope as it was accepted.
 */
export async function readEnvelopes(kv: Deno.Kv, stored: StoredMessage): Promise<Envelope[]> {
  const { id } = stored.message;
  const envelopes: Envelope[] = [];
  for await (const { value } of kv.list({ prefix: ["e", shardOfMessage(id), id] })) {
    envelopes.push(decodeEnvelope(value));
  }
  return envelopes.length === 0 && stored.envelope ? [stored.envelope] : envelopes;
}
