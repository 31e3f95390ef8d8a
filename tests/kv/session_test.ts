import assert from "node:assert/strict";
import { outcome, TestQueue } from "../support/test_queue.ts";
import { ManualClock } from "../support/manual_clock.ts";

async function inFolder(work: (path: string, clock: ManualClock) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "epoxi-session-" });
  try {
    await work(`${folder}/epoxi.kv`, new ManualClock());
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a second process accepts mail, but only the owner delivers it", () =>
  inFolder(async (path, clock) => {
    await using owner = await TestQueue.open({ path, clock });
    await using other = await TestQueue.open({ path, clock, nodeId: "node-2" });
    const id = await other.accept({});
    const claim = await owner.take("one.test", 50);
    assert.equal(claim.message.id, id);
    assert.equal(other.queue.work.take("one.test", 1), undefined);
    await owner.queue.work.settle(claim, [outcome("delivered")]);
    assert.equal((await other.queue.api.get(id))?.status, "delivered");
    assert.equal(owner.queue.total("messages"), 0);
  }));

Deno.test("when the owner falls silent the other takes over after the lease, and the zombie can settle nothing", () =>
  inFolder(async (path, clock) => {
    const owner = await TestQueue.open({ path });
    const id = await owner.accept({});
    const zombie = await owner.take("one.test");
    // From here on the first owner's own clock stands still: it sends no heartbeat.
    const other = await TestQueue.open({ path, clock, nodeId: "node-2" });
    const began = clock.now();
    const claim = await other.take("one.test", 500);
    assert.ok(clock.now() - began >= 15_000);
    assert.equal(claim.message.id, id);
    await assert.rejects(owner.queue.work.settle(zombie, [outcome("delivered")]), { name: "Fenced" });
    assert.equal(owner.queue.work.take("one.test", 1), undefined);
    assert.match(owner.troubles.join("\n"), /session lost/);
    assert.match(other.troubles.join("\n"), /session taken over/);
    await other.queue.work.settle(claim, [outcome("delivered")]);
    assert.equal((await other.queue.api.get(id))?.status, "delivered");
    await owner.crash();
    other.troubles = [];
    await other[Symbol.asyncDispose]();
  }));

Deno.test("a node whose heartbeat is late starts no delivery", () =>
  inFolder(async (path) => {
    await using owner = await TestQueue.open({ path });
    await owner.accept({});
    assert.equal(owner.queue.work.mayDeliver(), true);
    owner.clock.advance(8_000);
    assert.equal(owner.queue.work.mayDeliver(), false);
    assert.equal(owner.queue.work.take("one.test", 1), undefined);
    await owner.take("one.test", 10);
  }));

Deno.test("a restart of the same node goes on at once", () =>
  inFolder(async (path, clock) => {
    const first = await TestQueue.open({ path, clock });
    const id = await first.accept({});
    await first.crash();
    await using second = await TestQueue.open({ path, clock });
    const began = clock.now();
    assert.equal((await second.take("one.test", 1)).message.id, id);
    // Without waiting for the lease of the run before.
    assert.ok(clock.now() - began < 15_000);
  }));

Deno.test("after a clean end the next process owns everything at once", () =>
  inFolder(async (path, clock) => {
    const first = await TestQueue.open({ path, clock });
    await first[Symbol.asyncDispose]();
    await using second = await TestQueue.open({ path, clock, nodeId: "node-2" });
    const id = await second.accept({});
    assert.equal((await second.take("one.test", 1)).message.id, id);
  }));
