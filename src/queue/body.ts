/** Reading a message's bytes back: inline, in chunks, or rendered when it is a report of ours. */
import { keys } from "../kv/keys.ts";
import { decodeKept, decodeMessage, shardOfMessage, type StoredMessage } from "./rows.ts";

/** Thrown when a chunk is not where it must be. */
export class MissingBody extends Error {
  override readonly name = "MissingBody";
  constructor(id: string, n: number) {
    super(`body chunk ${n} of message ${id} is missing from the store`);
  }
}

/** Chunks of a body in order. */
export async function* readChunks(kv: Deno.Kv, id: string, count: number): AsyncIterable<Uint8Array> {
  const s = shardOfMessage(id);
  for (let n = 0; n < count; n++) {
    const { value } = await kv.get<Uint8Array>(keys.chunk(s, id, n));
    if (!(value instanceof Uint8Array)) throw new MissingBody(id, n);
    yield value;
  }
}

/** The body of a message row, whatever its size. */
export async function* readBody(kv: Deno.Kv, stored: StoredMessage): AsyncIterable<Uint8Array> {
  if (stored.body) yield stored.body;
  else yield* readChunks(kv, stored.message.id, stored.chunks);
}

/** Reads a message row; undefined when the message has left the queue. */
export async function readMessage(kv: Deno.Kv, id: string): Promise<StoredMessage | undefined> {
  const { value } = await kv.get(keys.message(shardOfMessage(id), id));
  return value === null ? undefined : decodeMessage(value);
}

/** The content of a message that is in the queue, a dead letter or captured; undefined where it is gone. */
export async function readContent(kv: Deno.Kv, id: string): Promise<AsyncIterable<Uint8Array> | undefined> {
  const stored = await readMessage(kv, id);
  if (stored) return readBody(kv, stored);
  for (const kind of ["dead", "captured"] as const) {
    const { value } = await kv.get(keys.kept(kind, shardOfMessage(id), id));
    if (value === null) continue;
    const { kept, body } = decodeKept(value);
    return readBody(kv, { message: kept.message, chunks: kept.chunks, ...(body ? { body } : {}) });
  }
  return undefined;
}

/** Header section of a message, up to `limit` bytes and cut at a line end, as text with one character a byte. */
export async function readHeader(content: AsyncIterable<Uint8Array>, limit: number): Promise<string> {
  let text = "";
  for await (const chunk of content) {
    text += latin1(chunk.subarray(0, limit + 4 - text.length));
    const end = text.indexOf("\r\n\r\n");
    if (end >= 0 && end + 2 <= limit) return text.slice(0, end + 2);
    if (text.length >= limit) break;
  }
  return text.slice(0, text.lastIndexOf("\r\n", limit - 2) + 2);
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return text;
}
