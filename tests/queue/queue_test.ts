import assert from "node:assert/strict";
import { ManualClock } from "../support/manual_clock.ts";
import { HOUR, MINUTE, outcome, TestQueue, textOf } from "../support/test_queue.ts";

Deno.test("a delivered message leaves nothing behind but its history", async () => {
  await using test = await TestQueue.open();
  const id = await test.accept({ to: ["a@one.test"] });
  const claim = await test.take("one.test");
  assert.equal(claim.message.id, id);
  assert.equal(await textOf(claim), "Subject: x\r\n\r\nhi\r\n");
  await test.queue.work.settle(claim, [outcome("delivered")]);
  for (const prefix of ["m", "e", "d", "b", "up", "in"]) {
    assert.deepEqual(await test.rows(prefix), [], prefix);
  }
  const view = await test.queue.api.get(id);
  assert.equal(view?.status, "delivered");
  assert.deepEqual(view?.recipients.map(({ address, attempts }) => [address, attempts.length]), [[
    "a@one.test",
    1,
  ]]);
  const summary = await test.queue.api.summary({ limit: 10, sort: "waiting" });
  assert.equal(summary.messages, 0);
  assert.equal(summary.recipients, 0);
});

Deno.test("retries come by the schedule, the last wait repeats, and none comes early", async () => {
  await using test = await TestQueue.open({ lifetime: 30 * HOUR });
  const id = await test.accept({ reversePath: "" });
  const waits = [5 * MINUTE, 30 * MINUTE, 2 * HOUR, 4 * HOUR, 8 * HOUR, 8 * HOUR];
  for (const [i, wait] of waits.entries()) {
    const claim = await test.take("one.test", MINUTE / 2);
    assert.equal(claim.envelope.recipients[0]!.attempts, i);
    const at = test.clock.now();
    await test.queue.work.settle(claim, [outcome("deferred", "450 4.2.1 later")]);
    const [row] = await test.rows("d");
    assert.equal(row!.key[4], at + wait);
    assert.equal(test.queue.work.take("one.test", 1), undefined);
  }
  assert.equal((await test.queue.api.get(id))?.recipients[0]?.attempts.length, waits.length);
  await test.until("the expiry", async () => (await test.queue.api.get(id))?.status === "expired", HOUR);
  assert.deepEqual(await test.rows("m"), []);
  assert.equal((await test.rows("kept", "dead")).length, 1);
});

Deno.test("each recipient has its own outcome, and those that failed together are reported together", async () => {
  await using test = await TestQueue.open();
  const id = await test.accept({ to: ["ok@one.test", "no@one.test", "nor@one.test", "later@one.test"] });
  const claim = await test.take("one.test");
  await test.queue.work.settle(claim, [
    outcome("delivered"),
    outcome("failed", "550 5.1.1 no such user"),
    outcome("failed", "552 5.2.2 full"),
    outcome("deferred", "450 4.2.1 busy"),
  ]);
  const statuses = (await test.queue.api.get(id))!.recipients.map(({ address, status }) =>
    `${address} ${status}`
  );
  assert.deepEqual(statuses, [
    "ok@one.test delivered",
    "no@one.test failed",
    "nor@one.test failed",
    "later@one.test deferred",
  ]);
  const report = await test.take("origin.test");
  assert.equal(report.message.reversePath, "");
  assert.equal(report.envelope.recipients[0]!.address, "sender@origin.test");
  const text = await textOf(report);
  assert.match(text, /Final-Recipient: rfc822; ?no@one\.test/i);
  assert.match(text, /Final-Recipient: rfc822; ?nor@one\.test/i);
  assert.doesNotMatch(text, /later@one\.test/);
  await test.queue.work.settle(report, [outcome("delivered")]);
  const again = await test.take("one.test", MINUTE);
  assert.deepEqual(again.envelope.recipients.map(({ address }) => address), ["later@one.test"]);
  await test.queue.work.settle(again, [outcome("delivered")]);
  assert.deepEqual(await test.rows("m"), []);
});

const NOTIFY = [
  ["default", undefined, { failed: 1, delivered: 0 }],
  ["NEVER", { never: true }, { failed: 0, delivered: 0 }],
  ["FAILURE", { failure: true }, { failed: 1, delivered: 0 }],
  ["SUCCESS", { success: true }, { failed: 0, delivered: 1 }],
  ["SUCCESS,FAILURE", { success: true, failure: true }, { failed: 1, delivered: 1 }],
  ["DELAY", { delay: true }, { failed: 0, delivered: 0 }],
] as const;
for (const [name, notify, expected] of NOTIFY) {
  for (const kind of ["failed", "delivered"] as const) {
    Deno.test(`NOTIFY ${name}, ${kind}: ${expected[kind]} report`, async () => {
      await using test = await TestQueue.open();
      await test.accept({ recipients: [{ address: "a@one.test", ...(notify ? { notify } : {}) }] });
      const claim = await test.take("one.test");
      await test.queue.work.settle(claim, [
        outcome(kind, kind === "failed" ? "550 5.1.1 no" : "250 2.0.0 ok"),
      ]);
      assert.equal((await test.rows("m")).length, expected[kind]);
    });
  }
}

Deno.test("a success report is left to the next host where that took the duty over", async () => {
  await using test = await TestQueue.open();
  await test.accept({ recipients: [{ address: "a@one.test", notify: { success: true } }] });
  const claim = await test.take("one.test");
  await test.queue.work.settle(claim, [outcome("delivered", "250 ok", { dsnPassedOn: true })]);
  assert.deepEqual(await test.rows("m"), []);
});

Deno.test("nothing is reported to the null reverse-path; the failed message is a dead letter and can be replayed", async () => {
  await using test = await TestQueue.open();
  const id = await test.accept({ reversePath: "" });
  await test.queue.work.settle(await test.take("one.test"), [outcome("failed", "550 5.7.1 no")]);
  assert.deepEqual(await test.rows("m"), []);
  const dead = await test.queue.api.dead({ limit: 10 });
  assert.deepEqual(dead.messages.map((each) => [each.id, each.subject]), [[id, "x"]]);
  assert.equal(await test.drive(test.queue.api.replay(id, "operator")), "applied");
  const claim = await test.take("one.test");
  assert.equal(await textOf(claim), "Subject: x\r\n\r\nhi\r\n");
  await test.queue.work.settle(claim, [outcome("delivered")]);
  assert.equal((await test.queue.api.get(id))?.status, "delivered");
  assert.equal(test.queue.total("dead"), 0);
});

Deno.test("a delay is reported once, to those who asked", async () => {
  await using test = await TestQueue.open();
  await test.accept({
    recipients: [{ address: "a@one.test", notify: { delay: true, failure: true } }, {
      address: "b@one.test",
    }],
  });
  const claim = await test.take("one.test");
  await test.queue.work.settle(claim, [
    outcome("deferred", "450 4.2.1 a"),
    outcome("deferred", "450 4.2.1 b"),
  ]);
  const report = await test.until("a delay report", () => test.queue.work.take("origin.test", 1), MINUTE);
  assert.ok(test.clock.now() - claim.message.receivedAt >= 4 * HOUR);
  const text = await textOf(report);
  assert.match(text, /Action: delayed/i);
  assert.match(text, /Will-Retry-Until:/i);
  assert.doesNotMatch(text, /b@one\.test/);
  await test.queue.work.settle(report, [outcome("delivered")]);
  for (let hours = 0; hours < 12; hours++) {
    test.clock.advance(HOUR);
    await new Promise<void>((resolve) => setTimeout(resolve, 2));
  }
  assert.equal(test.queue.work.take("origin.test", 1), undefined);
});

Deno.test("a large body is kept in chunks, comes back byte for byte, and goes with its message", async () => {
  await using test = await TestQueue.open();
  const line = "0123456789abcdefghijklmnopqrstuvwxyz and so on until the line is full\r\n";
  const content = "Subject: large\r\n\r\n" + line.repeat(10_000);
  await test.accept({ to: ["a@one.test", "b@two.test"] }, content);
  assert.ok((await test.rows("b")).length > 10);
  assert.deepEqual(await test.rows("up"), []);
  const first = await test.take("one.test");
  assert.equal(await textOf(first), content);
  await test.queue.work.settle(first, [outcome("delivered")]);
  const second = await test.take("two.test");
  assert.equal(await textOf(second), content);
  await test.queue.work.settle(second, [outcome("delivered")]);
  for (const prefix of ["m", "e", "d", "b", "up"]) assert.deepEqual(await test.rows(prefix), [], prefix);
});

Deno.test("an aborted upload leaves nothing", async () => {
  await using test = await TestQueue.open();
  const upload = test.queue.acceptor.begin({
    reversePath: "s@origin.test",
    recipients: [{ address: "a@one.test" }],
    source: { protocol: "ESMTP" },
  });
  await upload.write(new Uint8Array(2_000_000));
  assert.ok((await test.rows("b")).length > 0);
  await upload.abort();
  for (const prefix of ["m", "b", "up", "d"]) assert.deepEqual(await test.rows(prefix), [], prefix);
});

Deno.test("order is by band, then time, also after a crash", async () => {
  const folder = await Deno.makeTempDir({ prefix: "epoxi-order-" });
  const path = `${folder}/epoxi.kv`;
  const expected: string[] = [];
  {
    const test = await TestQueue.open({ path });
    const low = await test.accept({ band: 9 });
    for (let i = 0; i < 5; i++) {
      expected.push(await test.accept({}));
      test.clock.advance(700);
    }
    expected.unshift(await test.accept({ band: 0 }));
    expected.push(low);
    await test.crash();
  }
  {
    await using test = await TestQueue.open({ path, clock: new ManualClock(1_700_000_010_000) });
    const order: string[] = [];
    while (order.length < expected.length) {
      const claim = await test.take("one.test");
      order.push(claim.message.id);
      await test.queue.work.settle(claim, [outcome("delivered")]);
    }
    assert.deepEqual(order, expected);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what was in flight when the process died is taken again", async () => {
  const folder = await Deno.makeTempDir({ prefix: "epoxi-crash-" });
  const path = `${folder}/epoxi.kv`;
  const first = await TestQueue.open({ path });
  const id = await first.accept({});
  assert.equal((await first.take("one.test")).message.id, id);
  await first.crash();
  {
    await using second = await TestQueue.open({ path });
    assert.equal((await second.take("one.test")).message.id, id);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("hold keeps a message, release lets it go, cancel ends it", async () => {
  await using test = await TestQueue.open();
  const id = await test.accept({});
  const apply = async (kind: "hold" | "release" | "retry" | "cancel") => {
    assert.equal(await test.drive(test.queue.api.command(kind, id, "me")), "applied");
  };
  await apply("hold");
  assert.equal((await test.queue.api.get(id))?.status, "held");
  assert.equal((await test.queue.api.summary({ limit: 1, sort: "waiting" })).held, 1);
  assert.equal(test.queue.work.take("one.test", 1), undefined);
  await apply("release");
  const claim = await test.take("one.test");
  await test.queue.work.settle(claim, [outcome("deferred", "450 4.2.1 later")]);
  const before = test.clock.now();
  await apply("retry");
  const again = await test.take("one.test");
  assert.ok(test.clock.now() - before < 5 * MINUTE);
  await test.queue.work.settle(again, [outcome("deferred", "450 4.2.1 later")]);
  await apply("cancel");
  assert.equal((await test.queue.api.get(id))?.status, "cancelled");
  for (const prefix of ["m", "e", "d"]) assert.deepEqual(await test.rows(prefix), [], prefix);
  assert.equal(test.queue.total("messages"), 0);
  assert.equal(test.queue.total("held"), 0);
});

Deno.test("a hold during an attempt holds what that leaves open", async () => {
  await using test = await TestQueue.open();
  const id = await test.accept({});
  const claim = await test.take("one.test");
  assert.equal(await test.drive(test.queue.api.command("hold", id, "me")), "applied");
  await test.queue.work.settle(claim, [outcome("deferred", "450 4.2.1 later")]);
  assert.equal((await test.queue.api.get(id))?.status, "held");
  assert.deepEqual(await test.rows("d"), []);
});

Deno.test("a held message expires too", async () => {
  await using test = await TestQueue.open({ lifetime: HOUR });
  const id = await test.accept({ reversePath: "" });
  assert.equal(await test.drive(test.queue.api.command("hold", id, "me")), "applied");
  await test.until("expiry", async () => (await test.queue.api.get(id))?.status === "expired", 30_000);
  assert.equal(test.queue.total("held"), 0);
});

Deno.test("a paused queue does not hold up another, and goes on by itself", async () => {
  await using test = await TestQueue.open();
  await test.accept({ to: ["a@dead.test"] });
  await test.accept({ to: ["b@dead.test"] });
  await test.accept({ to: ["c@one.test"] });
  const claim = await test.take("dead.test");
  test.queue.work.pause("dead.test", 60_000);
  test.queue.work.release(claim, "network");
  assert.equal(test.queue.work.take("dead.test", 1), undefined);
  await test.queue.work.settle(await test.take("one.test"), [outcome("delivered")]);
  const at = test.clock.now();
  await test.take("dead.test", 1000);
  assert.ok(test.clock.now() - at >= 50_000);
});

Deno.test("more than memory holds is read from the store, each envelope once", async () => {
  await using test = await TestQueue.open({ readyMemory: 4_000 });
  const body = "Subject: x\r\n\r\n" + "y".repeat(900) + "\r\n";
  const ids = new Set<string>();
  for (let i = 0; i < 60; i++) ids.add(await test.accept({}, body));
  assert.ok(test.queue.counts.readyBytes <= 4_000);
  const seen: string[] = [];
  while (seen.length < 60) {
    const claim = await test.take("one.test");
    seen.push(claim.message.id);
    await test.queue.work.settle(claim, [outcome("delivered")]);
  }
  assert.equal(new Set(seen).size, 60);
  assert.deepEqual(new Set(seen), ids);
  assert.equal(test.queue.work.take("one.test", 1), undefined);
});

Deno.test("a message for a thousand domains is accepted whole and every recipient is delivered once", async () => {
  await using test = await TestQueue.open();
  const to = Array.from({ length: 1000 }, (_, i) => `a@d${i}.test`);
  const id = await test.accept({ to });
  await test.until("its due rows", async () => (await test.rows("in")).length === 0);
  for (let i = 0; i < 1000; i++) {
    const claim = await test.take(`d${i}.test`, 1);
    await test.queue.work.settle(claim, [outcome("delivered")]);
  }
  assert.equal((await test.queue.api.get(id))?.status, "delivered");
  for (const prefix of ["m", "e", "d", "in", "up"]) assert.deepEqual(await test.rows(prefix), [], prefix);
});

Deno.test("too little free disk is told before any mail is taken", async () => {
  await using test = await TestQueue.open({ minFreeDisk: 2 ** 60 });
  assert.match(test.queue.acceptor.reasons()[0]!, /disk nearly full/);
  await assert.rejects(test.accept({}), { name: "Unavailable" });
});

Deno.test("find by recipient, sender and Message-ID, whatever the letter case", async () => {
  await using test = await TestQueue.open();
  const upload = test.queue.acceptor.begin({
    reversePath: "Boss@Origin.test",
    recipients: [{ address: "Ann@one.test" }],
    source: { protocol: "ESMTP" },
  });
  await upload.write(new TextEncoder().encode("Message-ID: <Abc@x>\r\n\r\n"));
  await upload.commit({ headerMessageId: "Abc@x" });
  await test.accept({ to: ["joann@one.test"] });
  for (const query of ["ann@one.test", "boss@origin.test", "<abc@x>", "Abc@x", upload.id]) {
    const found = await test.queue.api.find(query, 10);
    assert.deepEqual(found.map(({ id }) => id), [upload.id], query);
  }
});

Deno.test("deferring and loading at the same time never bring an envelope into memory twice", async () => {
  await using test = await TestQueue.open({ schedule: [10], readyMemory: 2_000 });
  const body = "Subject: x\r\n\r\n" + "y".repeat(900) + "\r\n";
  for (let i = 0; i < 40; i++) await test.accept({ reversePath: "" }, body);
  const open = new Set<string>();
  const attempts = new Map<string, number>();
  const settling: Promise<void>[] = [];
  let delivered = 0;
  await test.until("all deliveries", () => {
    for (
      let claim = test.queue.work.take("one.test", 8);
      claim;
      claim = test.queue.work.take("one.test", 8)
    ) {
      const { id } = claim.message;
      assert.ok(!open.has(id), `${id} was handed out twice`);
      open.add(id);
      const attempt = (attempts.get(id) ?? 0) + 1;
      attempts.set(id, attempt);
      assert.equal(claim.envelope.recipients[0]!.attempts, attempt - 1);
      // The claim counts as open until its settle has been asked for; from then on the queue may hand it out again.
      const kind = attempt < 6 ? "deferred" : "delivered";
      settling.push(
        test.queue.work.settle(claim, [outcome(kind, kind === "deferred" ? "450 4.2.1 x" : "250 ok")]),
      );
      void settling.at(-1)!.then(() => open.delete(id));
      if (kind === "delivered") delivered++;
    }
    return delivered === 40;
  }, 3);
  await Promise.all(settling);
  for (const prefix of ["m", "e", "d"]) assert.deepEqual(await test.rows(prefix), [], prefix);
  assert.equal(test.queue.total("messages"), 0);
});

const LONG = "x".repeat(150);

Deno.test("rows that would grow too large are split or cut, and nothing is stuck", async () => {
  await using test = await TestQueue.open();
  const header = "Subject: x\r\n" + ("X-Long: " + "y".repeat(900) + "\r\n").repeat(17) + "\r\n";
  const to = Array.from({ length: 100 }, (_, i) => `${LONG}${i}@one.test`);
  const id = await test.accept({ to }, header + "z".repeat(47_000 - header.length));
  const seen: string[] = [];
  await test.until("every envelope", async () => {
    const claim = test.queue.work.take("one.test", 5);
    if (claim) {
      seen.push(...claim.envelope.recipients.map(({ address }) => address));
      const outcomes = claim.envelope.recipients.map(() =>
        outcome("failed", "550 5.1.1 " + "no ".repeat(100))
      );
      await test.queue.work.settle(claim, outcomes);
    }
    return seen.length === to.length;
  });
  assert.deepEqual([...seen].sort(), [...to].sort());
  const view = await test.queue.api.get(id);
  assert.equal(view?.recipients.length, 100);
  assert.ok(view?.recipients.every(({ status }) => status === "failed"));
  assert.match(await textOf(await test.take("origin.test")), /Action: failed/i);
  test.troubles = test.troubles.filter((line) => !line.includes("dead letter without some recipients"));
});

Deno.test("a thousand long addresses are accepted, seen, and each tried", async () => {
  await using test = await TestQueue.open();
  const to = Array.from({ length: 1000 }, (_, i) => `${LONG}${i}@one.test`);
  const id = await test.accept({ to });
  assert.equal((await test.queue.api.get(id))?.recipients.length, 1000);
  let seen = 0;
  await test.until("every envelope", async () => {
    const claim = test.queue.work.take("one.test", 5);
    if (!claim) return seen === 1000;
    seen += claim.envelope.recipients.length;
    await test.queue.work.settle(
      claim,
      claim.envelope.recipients.map(() => outcome("failed", "550 5.1.1 no")),
    );
    return seen === 1000;
  });
  assert.ok((await test.queue.api.get(id))?.recipients.every(({ status }) => status === "failed"));
  test.troubles = test.troubles.filter((line) => !line.includes("dead letter without some recipients"));
});

Deno.test("orders reach every envelope of a message for a thousand domains", async () => {
  await using test = await TestQueue.open();
  const to = Array.from({ length: 1000 }, (_, i) => `a@d${i}.test`);
  const id = await test.accept({ to });
  await test.until("its due rows", async () => (await test.rows("in")).length === 0);
  assert.equal(await test.drive(test.queue.api.command("hold", id, "me")), "applied");
  assert.deepEqual(await test.rows("d"), []);
  assert.equal(test.queue.total("held"), 1000);
  assert.equal(await test.drive(test.queue.api.command("release", id, "me")), "applied");
  assert.equal((await test.rows("d")).length, 1000);
  assert.equal(await test.drive(test.queue.api.command("cancel", id, "me")), "applied");
  for (const prefix of ["m", "e", "d", "cmd"]) assert.deepEqual(await test.rows(prefix), [], prefix);
  assert.equal(test.queue.total("recipients"), 0);
});

Deno.test("a delay is reported for every recipient of a message for very many domains", async () => {
  await using test = await TestQueue.open();
  const recipients = Array.from(
    { length: 600 },
    (_, i) => ({ address: `a@d${i}.test`, notify: { delay: true } as const }),
  );
  await test.accept({ recipients });
  await test.until("its due rows", async () => (await test.rows("in")).length === 0);
  let text = "";
  await test.until("all reports", async () => {
    const report = test.queue.work.take("origin.test", 1);
    if (!report) return false;
    text += await textOf(report);
    await test.queue.work.settle(report, [outcome("delivered")]);
    return recipients.every(({ address }) => text.includes(`; ${address}`));
  }, MINUTE);
  assert.equal(text.match(/^Final-Recipient:/gim)?.length, 600);
});
