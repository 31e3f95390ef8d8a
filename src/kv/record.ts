/**
 * Values in the store: our own bytes, so that their size is exact and any runtime version reads them.
 * Layout: version (1 byte), length of the JSON part (4 bytes, big-endian), JSON in UTF-8, then raw bytes.
 */

/** Format of the records written by this program. */
export const RECORD_VERSION = 1;

const HEAD = 5;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A record read back: what was described and what was carried. */
export interface DecodedRecord<T> {
  readonly value: T;
  readonly body: Uint8Array;
}

/** Thrown when a value in the store is none of ours, or of a later version. */
export class RecordError extends Error {
  override readonly name = "RecordError";
}

/** Encodes `value` (plain JSON data) with `body` behind it. */
export function encodeRecord(value: unknown, body?: Uint8Array): Uint8Array {
  const json = encoder.encode(JSON.stringify(value));
  const bytes = new Uint8Array(HEAD + json.length + (body?.length ?? 0));
  bytes[0] = RECORD_VERSION;
  new DataView(bytes.buffer).setUint32(1, json.length);
  bytes.set(json, HEAD);
  if (body) bytes.set(body, HEAD + json.length);
  return bytes;
}

/**
 * The inverse of {@linkcode encodeRecord}. The body is a view on `bytes`.
 * @throws {RecordError} when `bytes` is no record, or of a version this program does not know.
 */
export function decodeRecord<T>(bytes: unknown): DecodedRecord<T> {
  if (!(bytes instanceof Uint8Array) || bytes.length < HEAD) {
    throw new RecordError(`expected a record of at least ${HEAD} bytes, got ${describe(bytes)}`);
  }
  if (bytes[0] !== RECORD_VERSION) {
    throw new RecordError(`expected record version ${RECORD_VERSION}, got ${bytes[0]}`);
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  if (HEAD + length > bytes.length) throw new RecordError(`record of ${bytes.length} bytes is cut off`);
  const value = JSON.parse(decoder.decode(bytes.subarray(HEAD, HEAD + length))) as T;
  return { value, body: bytes.subarray(HEAD + length) };
}

function describe(value: unknown): string {
  return value instanceof Uint8Array ? `${value.length} bytes` : typeof value;
}
