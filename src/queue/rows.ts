/** How the queue's nouns lie in the store: encoding and decoding of message, envelope and kept rows. */
import { decodeRecord, encodeRecord } from "../kv/record.ts";
import { keys } from "../kv/keys.ts";
import { shardOf } from "../kv/ids.ts";
import type { Mutation } from "../kv/writer.ts";
import type { Envelope, Message, Recipient } from "./model.ts";

/** Bodies up to this size lie in the message row itself. */
export const INLINE_MAX = 48 * 1024;
/** Size of a body chunk; with its key and framing well under the 64 KiB of a value. */
export const CHUNK_SIZE = 60_000;

/** Bytes of a row at most that are ours to fill: a value holds 64 KiB, with its framing. */
export const ROW_MAX = 60_000;

/** Whether the only envelope of a message fits into the message row beside its body. */
export function fitsInMessage(envelope: Envelope, body: Uint8Array | undefined): boolean {
  return jsonSize(envelope) + (body?.length ?? 0) < ROW_MAX;
}

/** Bytes a value takes as JSON in a record. */
export function jsonSize(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

/** Due rows say where their envelope is: in the message row, or in a row of its own. */
const IN_MESSAGE = Uint8Array.of(0);
const IN_ENVELOPE = Uint8Array.of(1);

/** A message row read back. */
export interface StoredMessage {
  readonly message: Message;
  /** The only envelope, while it was never deferred. */
  readonly envelope?: Envelope;
  /** Body, where it is not in chunks. */
  readonly body?: Uint8Array;
  readonly chunks: number;
}

/** The final state of one recipient of a kept message. */
export interface KeptRecipient {
  readonly address: string;
  readonly orcpt?: string;
  readonly status: string;
  readonly reply: string;
  readonly at: number;
}

/** Why a message is kept after it left the queue. */
export type KeptKind = "dead" | "captured";

/** A dead letter, or a message captured in dev mode. */
export interface KeptMessage {
  readonly message: Message;
  readonly keptAt: number;
  readonly recipients: readonly KeptRecipient[];
  readonly chunks: number;
}

/** Number of chunks of a body of `size` bytes that is not inline. */
export function chunkCount(size: number): number {
  return Math.ceil(size / CHUNK_SIZE);
}

/** Shard of a message; the queue id carries it. */
export function shardOfMessage(id: string): number {
  const shard = shardOf(id);
  if (shard === undefined) throw new RangeError(`"${id}" is no queue id`);
  return shard;
}

/** Sets the message row. `body` is the inline body; leave it out where the body lies in chunks. */
export function setMessage(
  message: Message,
  envelope: Envelope | undefined,
  body: Uint8Array | undefined,
  chunks: number,
): Mutation {
  const value = encodeRecord(envelope ? { message, envelope, chunks } : { message, chunks }, body);
  return { key: keys.message(shardOfMessage(message.id), message.id), value };
}

/** @throws {RecordError} when the value is no message row. */
export function decodeMessage(value: unknown): StoredMessage {
  const record = decodeRecord<{ message: Message; envelope?: Envelope; chunks: number }>(value);
  const { message, envelope, chunks } = record.value;
  return {
    message,
    chunks,
    ...(envelope ? { envelope } : {}),
    // A copy, so that a body in memory does not hold the whole row.
    ...(chunks === 0 ? { body: record.body } : {}),
  };
}

export function setEnvelope(envelope: Envelope): Mutation {
  return {
    key: keys.envelope(shardOfMessage(envelope.id), envelope.id, envelope.n),
    value: encodeRecord(envelope),
  };
}

export function deleteEnvelope(envelope: Envelope): Mutation {
  return { key: keys.envelope(shardOfMessage(envelope.id), envelope.id, envelope.n) };
}

export function decodeEnvelope(value: unknown): Envelope {
  return decodeRecord<Envelope>(value).value;
}

/** Key of the envelope's due row. */
export function dueKey(envelope: Envelope): Deno.KvKey {
  const { id, n, queue, band, at } = envelope;
  return keys.due(shardOfMessage(id), queue, band, at, id, n);
}

/** Sets the due row; `ownRow` tells whether the envelope has a row of its own. */
export function setDue(envelope: Envelope, ownRow: boolean): Mutation {
  return { key: dueKey(envelope), value: ownRow ? IN_ENVELOPE : IN_MESSAGE };
}

/** What a due row's key and value tell. */
export interface DueRow {
  readonly band: number;
  readonly at: number;
  readonly id: string;
  readonly n: number;
  readonly ownRow: boolean;
}

export function decodeDue(key: Deno.KvKey, value: unknown): DueRow {
  const ownRow = value instanceof Uint8Array && value[0] === 1;
  return { band: Number(key[3]), at: Number(key[4]), id: String(key[5]), n: Number(key[6]), ownRow };
}

export function setKept(kind: KeptKind, kept: KeptMessage, body: Uint8Array | undefined): Mutation {
  const { id } = kept.message;
  return { key: keys.kept(kind, shardOfMessage(id), id), value: encodeRecord(kept, body) };
}

export function decodeKept(value: unknown): { kept: KeptMessage; body?: Uint8Array } {
  const record = decodeRecord<KeptMessage>(value);
  return { kept: record.value, ...(record.value.chunks === 0 ? { body: record.body } : {}) };
}

/** Deletes the body chunks `from` to `to` (exclusive) of a message. */
export function deleteChunks(id: string, from: number, to: number): Mutation[] {
  const s = shardOfMessage(id);
  return Array.from({ length: to - from }, (_, i) => ({ key: keys.chunk(s, id, from + i) }));
}

/** Names an envelope in memory. */
export function envelopeKey(id: string, n: number): string {
  return `${id}/${n}`;
}

/** The recipient without what is only true while it waits. */
export function withoutHold(recipient: Recipient): Recipient {
  return { ...recipient, status: recipient.attempts > 0 ? "deferred" : "queued" };
}
