import assert from "node:assert/strict";
import fc from "fast-check";
import { createIdSource, idAt, shardOf, timeOf } from "../../src/kv/ids.ts";
import { EventJournal } from "../../src/kv/journal.ts";
import { keys } from "../../src/kv/keys.ts";
import { decodeRecord, encodeRecord } from "../../src/kv/record.ts";
import { openStore } from "../../src/kv/store.ts";
import { Writer } from "../../src/kv/writer.ts";

async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "epoxi-store-" });
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("records read back what was written", () => {
  fc.assert(fc.property(fc.jsonValue(), fc.uint8Array(), (value, body) => {
    const decoded = decodeRecord(encodeRecord(value, body));
    assert.deepEqual(decoded.value, JSON.parse(JSON.stringify(value)));
    assert.deepEqual(decoded.body, body);
  }));
});

Deno.test("a record of another version, or cut off, is refused", () => {
  const bytes = encodeRecord({ a: 1 });
  assert.throws(() => decodeRecord(bytes.with(0, 9)), /expected record version 1, got 9/);
  assert.throws(() => decodeRecord(bytes.subarray(0, 8)), /cut off/);
  assert.throws(() => decodeRecord("text"), /expected a record/);
});

Deno.test("ids sort in the order they were made, even when the clock steps back", () => {
  const ids = createIdSource();
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 41 }), { minLength: 2 }), (times) => {
    const made = times.map((time) => ids.queueId(7, time));
    assert.deepEqual([...made].sort(), made);
    for (const id of made) assert.equal(shardOf(id), 7);
  }));
  const now = 1_800_000_000_000;
  const id = createIdSource().queueId(63, now);
  assert.equal(timeOf(id), now);
  assert.ok(idAt(now, 63) < id && id < idAt(now + 1, 63));
  assert.equal(shardOf("../etc/passwd"), undefined);
});

Deno.test("what is no store is refused with its name", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/text`,
      "this is no database at all, however long it may be\n".repeat(50),
    );
    await assert.rejects(openStore(`${folder}/text`, "serve"), /text is no Deno KV file/);
    const { DatabaseSync } = await import("node:sqlite");
    const other = new DatabaseSync(`${folder}/other.db`);
    other.exec("create table people (name text)");
    other.close();
    await assert.rejects(openStore(`${folder}/other.db`, "serve"), /SQLite file, but no Deno KV file/);
    await assert.rejects(openStore(`${folder}/no/such/folder/epoxi.kv`, "serve"), /cannot open the queue/);
  }));

Deno.test("a store of the other mode or of a later version is refused", () =>
  withFolder(async (folder) => {
    const path = `${folder}/epoxi.kv`;
    const store = await openStore(path, "dev");
    store.close();
    await assert.rejects(openStore(path, "serve"), /was made by "dev", this is "serve"/);
    const kv = await Deno.openKv(path);
    await kv.set(keys.schema(), encodeRecord({ version: 99, mode: "dev", shards: 64 }));
    kv.close();
    await assert.rejects(openStore(path, "dev"), /layout version 99, made by a later Epoxi/);
  }));

Deno.test("jobs that come together share a commit; a job is whole or not at all", () =>
  withFolder(async (folder) => {
    const store = await openStore(`${folder}/epoxi.kv`, "serve");
    const journal = new EventJournal<{ n: number }>(createIdSource(), () => 1);
    journal.load(3, {});
    const writer = new Writer<{ n: number }>(store.kv, { check: () => undefined, lost() {} }, journal);
    const job = (n: number) => ({
      shard: 3,
      fenced: false,
      mutations: [{ key: ["t", n, 1], value: new Uint8Array(4000) }, {
        key: ["t", n, 2],
        value: new Uint8Array(1),
      }],
      entries: [{ n }],
      counts: { messages: 1 },
    });
    await Promise.all(Array.from({ length: 500 }, (_, n) => writer.commit(job(n))));
    const versions = new Set<string>();
    let rows = 0;
    for await (const { versionstamp } of store.reader.list({ prefix: ["t"] })) {
      versions.add(versionstamp);
      rows++;
    }
    assert.equal(rows, 1000);
    assert.ok(versions.size <= 10, `${versions.size} commits for 500 jobs`);
    assert.equal(journal.count(3, "messages"), 500);
    const counted =
      decodeRecord<{ messages: number }>((await store.reader.get(keys.counters(3))).value).value;
    assert.equal(counted.messages, 500);
    store.close();
  }));

Deno.test("a fenced job is refused once the fence fell, and the jobs beside it are not", () =>
  withFolder(async (folder) => {
    const store = await openStore(`${folder}/epoxi.kv`, "serve");
    const { versionstamp } = await store.kv.set(["fence", "x"], 1);
    const journal = new EventJournal<unknown>(createIdSource(), () => 1);
    let lost = false;
    const fence = {
      check: () => lost ? undefined : { key: ["fence", "x"], versionstamp },
      lost: () => lost = true,
    };
    const writer = new Writer<unknown>(store.kv, fence, journal);
    await writer.commit({ shard: 0, fenced: true, mutations: [{ key: ["t", 1], value: new Uint8Array(1) }] });
    await store.kv.delete(["fence", "x"]);
    const results = await Promise.allSettled([
      writer.commit({ shard: 0, fenced: true, mutations: [{ key: ["t", 2], value: new Uint8Array(1) }] }),
      writer.commit({ shard: 0, fenced: false, mutations: [{ key: ["t", 3], value: new Uint8Array(1) }] }),
    ]);
    assert.deepEqual(results.map(({ status }) => status), ["rejected", "fulfilled"]);
    const found = await Array.fromAsync(store.reader.list({ prefix: ["t"] }), ({ key }) => key[1]);
    assert.deepEqual(found, [1, 3]);
    store.close();
  }));
