/** Opening and closing the store: one handle that writes, one for scans, both checked before use. */
import { DatabaseSync } from "node:sqlite";
import { decodeRecord, encodeRecord } from "./record.ts";
import { keys, SHARDS } from "./keys.ts";

/** Layout of the rows; a later one is refused. */
export const SCHEMA_VERSION = 1;

/** Thrown with a message for the operator when the store can't be used. */
export class StoreError extends Error {
  override readonly name = "StoreError";
}

/** An open store. */
export interface Store {
  /** The handle that writes. Reads on it wait behind commits. */
  readonly kv: Deno.Kv;
  /** The handle for reads and scans. */
  readonly reader: Deno.Kv;
  /** True for a file on this machine: `watch` sees nothing of other processes, so owners poll. */
  readonly local: boolean;
  close(): void;
}

interface Schema {
  readonly version: number;
  readonly mode: string;
  readonly shards: number;
}

/**
 * Opens the store at `path` (a file, or a KV Connect URL) for `mode` (`dev` or `serve`; what one has written the
 * other refuses, so that captured mail is never sent and real mail never captured).
 * @throws {StoreError} when the file is no store, is damaged, belongs to the other mode or to a later version.
 */
export async function openStore(path: string, mode: "dev" | "serve"): Promise<Store> {
  const local = !/^https?:\/\//.test(path);
  if (local) checkFile(path);
  const kv = await open(path);
  let reader: Deno.Kv | undefined;
  try {
    await checkSchema(kv, path, mode);
    reader = await open(path);
  } catch (error) {
    kv.close();
    throw error;
  }
  return {
    kv,
    reader,
    local,
    close() {
      kv.close();
      reader.close();
    },
  };
}

async function open(path: string): Promise<Deno.Kv> {
  try {
    return await Deno.openKv(path);
  } catch (error) {
    throw new StoreError(`cannot open the queue ${path}: ${text(error)}`);
  }
}

/** Damaged pages can end the whole process once Deno KV reads them, so SQLite looks first. */
function checkFile(path: string): void {
  try {
    if (Deno.statSync(path).size === 0) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new StoreError(`cannot read the queue ${path}: ${text(error)}`);
  }
  let verdict: string;
  let tables: string[];
  try {
    const database = new DatabaseSync(path, { readOnly: true });
    try {
      verdict = String(Object.values(database.prepare("pragma quick_check(1)").get() ?? {})[0]);
      tables = database.prepare("select name from sqlite_master where type = 'table'").all()
        .map((row) => String(row["name"]));
    } finally {
      database.close();
    }
  } catch (error) {
    throw new StoreError(
      `${path} is no Deno KV file (${text(error)}); EPOXI_KV must name a queue or a new file`,
    );
  }
  if (verdict !== "ok") {
    throw new StoreError(
      `the queue ${path} is damaged (${verdict}); restore a backup, or move the file away`,
    );
  }
  if (tables.length > 0 && !tables.includes("kv")) {
    throw new StoreError(
      `${path} is an SQLite file, but no Deno KV file; EPOXI_KV must name a queue or a new file`,
    );
  }
}

async function checkSchema(kv: Deno.Kv, path: string, mode: string): Promise<void> {
  const key = keys.schema();
  for (;;) {
    const entry = await read(kv, key, path);
    if (entry.value === null) {
      const schema: Schema = { version: SCHEMA_VERSION, mode, shards: SHARDS };
      const made = await kv.atomic().check({ key, versionstamp: null }).set(key, encodeRecord(schema))
        .commit();
      if (made.ok) return;
      continue;
    }
    const schema = decodeSchema(entry.value, path);
    if (schema.version > SCHEMA_VERSION) {
      throw new StoreError(
        `the queue ${path} has layout version ${schema.version}, made by a later Epoxi; ` +
          `this one knows version ${SCHEMA_VERSION}: start the later program`,
      );
    }
    if (schema.mode !== mode) {
      throw new StoreError(
        `the queue ${path} was made by "${schema.mode}", this is "${mode}": captured mail must not be sent, ` +
          `nor real mail captured; give each its own EPOXI_DATA_DIR`,
      );
    }
    return;
  }
}

async function read(kv: Deno.Kv, key: Deno.KvKey, path: string): Promise<Deno.KvEntryMaybe<unknown>> {
  try {
    return await kv.get(key);
  } catch (error) {
    throw new StoreError(`cannot read the queue ${path}: ${text(error)}`);
  }
}

function decodeSchema(value: unknown, path: string): Schema {
  try {
    return decodeRecord<Schema>(value).value;
  } catch (error) {
    throw new StoreError(`the queue ${path} was not made by this program: ${text(error)}`);
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
