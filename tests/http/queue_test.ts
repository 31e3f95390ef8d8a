import assert from "node:assert/strict";
import { overallStatus } from "../../src/queue/api.ts";
import type { PipelineView } from "../../src/queue/api.ts";
import { harness } from "./harness.ts";

Deno.test("ping, live, ready, metrics", async () => {
  const { call, acceptor, metrics } = harness();
  assert.equal((await call("/ping")).text, "pong!");
  assert.equal((await call("/livez")).status, 200);
  assert.deepEqual((await call("/readyz")).json, { status: "ready", reasons: [] });
  acceptor.sick = ["The disk is nearly full."];
  const ready = await call("/readyz");
  assert.equal(ready.status, 503);
  assert.deepEqual(ready.json.reasons, acceptor.sick);
  assert.equal((await call("/livez")).status, 200);
  metrics.counter("epoxi_test_total", "Test.").add(3);
  const { text, type } = await call("/metrics");
  assert.match(text, /^epoxi_test_total 3$/m);
  assert.match(type, /^text\/plain; version=0\.0\.4/);
});

Deno.test("the queue is asked with limit, sort and cursor, and answered as it is", async () => {
  const { call, queue } = harness();
  queue.queue = { ...queue.queue, messages: 3, oldest: "2026-11-24T09:24:23.000Z" };
  const { json } = await call("/v1/queue?limit=5&sort=oldest&cursor=abc");
  assert.deepEqual(json, queue.queue);
  await call("/v1/queue");
  assert.deepEqual(queue.calls, [
    ["summary", { limit: 5, sort: "oldest", cursor: "abc" }],
    ["summary", { limit: 100, sort: "waiting" }],
  ]);
  for (const wrong of ["limit=0", "limit=x", "limit=5000", "sort=size", "colour=red"]) {
    const answer = await call(`/v1/queue?${wrong}`);
    assert.equal(answer.status, 400, wrong);
    assert.equal(answer.type, "application/problem+json");
  }
});

Deno.test("a message, or 404", async () => {
  const { call, queue } = harness();
  const message = {
    id: "id1",
    from: "ann@example.com",
    status: "deferred" as const,
    receivedAt: "2026-11-24T09:24:23.000Z",
    size: 10,
    protocol: "HTTP",
    recipients: [],
  };
  queue.messages.set("id1", message);
  assert.deepEqual((await call("/v1/messages/id1")).json, message);
  const missing = await call("/v1/messages/nothing");
  assert.equal(missing.status, 404);
  assert.match(missing.json.detail, /no message nothing/);
  assert.equal((await call("/v2/anything")).type, "application/problem+json");
});

Deno.test("commands reach the queue with their giver; their result shows in the status", async () => {
  const { call, queue } = harness();
  for (const kind of ["retry", "hold", "release"]) {
    assert.equal((await call(`/v1/messages/id1/${kind}`, { json: {} })).status, 200);
  }
  assert.equal((await call("/v1/messages/id1", { method: "DELETE", json: {} })).status, 200);
  queue.result = "accepted";
  assert.equal((await call("/v1/dead/id2/replay", { json: {} })).status, 202);
  assert.equal((await call("/v1/dead/id2", { method: "DELETE", json: {} })).status, 202);
  assert.equal((await call("/v1/captured/id3", { method: "DELETE", json: {} })).status, 202);
  queue.result = "not found";
  assert.equal((await call("/v1/messages/id1/retry", { json: {} })).status, 404);
  assert.equal((await call("/v1/captured", { method: "DELETE", json: {} })).status, 200);
  assert.deepEqual(queue.calls, [
    ["retry", "id1", "local"],
    ["hold", "id1", "local"],
    ["release", "id1", "local"],
    ["cancel", "id1", "local"],
    ["replay", "id2", "local"],
    ["purge", "id2", "local"],
    ["forget", "id3", "local"],
    ["retry", "id1", "local"],
    ["forget", undefined, "local"],
  ]);
  assert.equal((await call("/v1/messages/id1/explode", { json: {} })).status, 404);
});

Deno.test("finding and listing", async () => {
  const { call, queue } = harness();
  assert.deepEqual((await call("/v1/find?q=%3Ca%40b%3E&limit=7")).json, { messages: [] });
  assert.equal((await call("/v1/find")).status, 400);
  assert.equal((await call("/v1/find?q=%20")).status, 400);
  await call("/v1/messages?status=held&domain=example.com");
  assert.deepEqual(queue.calls, [
    ["find", "<a@b>", 7],
    ["list", { limit: 100, status: "held", domain: "example.com" }],
  ]);
});

Deno.test("a captured message is shown as its reader sees it, and nothing of it runs here", async () => {
  const { call, queue } = harness();
  const source = [
    "From: =?utf-8?q?J=C3=BCrgen?= <j@example.com>",
    "To: bob@example.net",
    "Subject: =?utf-8?b?R3LDvMOfZQ==?=",
    "MIME-Version: 1.0",
    "Content-Type: multipart/mixed; boundary=x",
    "",
    "--x",
    "Content-Type: text/html; charset=utf-8",
    "",
    "<script>alert(1)</script><b>Hi</b>",
    "--x",
    'Content-Type: text/html; name="../../evil\u00e4.html"',
    "Content-Disposition: attachment",
    "",
    "<script>alert(2)</script>",
    "--x--",
    "",
  ].join("\r\n");
  queue.contents.set("id1", new TextEncoder().encode(source));
  const { json } = await call("/v1/captured/id1");
  assert.equal(json.subject, "Grüße");
  assert.deepEqual(json.from, [{ name: "Jürgen", email: "j@example.com" }]);
  assert.match(json.html, /<b>Hi<\/b>/);
  assert.equal(json.attachments[0].contentType, "text/html");
  assert.deepEqual(json.headers[2], { name: "Subject", value: "Grüße" });
  const raw = await call("/v1/captured/id1/raw");
  assert.equal(raw.text, source);
  const file = await call("/v1/captured/id1/attachments/0");
  assert.match(file.text, /alert\(2\)/);
  for (const { headers } of [raw, file]) {
    assert.match(headers.get("content-disposition")!, /^attachment; filename="/);
    assert.match(headers.get("content-security-policy")!, /sandbox/);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
  }
  for (
    const path of [
      "/v1/captured/id2",
      "/v1/captured/id2/raw",
      "/v1/captured/id1/attachments/1",
      "/v1/captured/id1/attachments/-1",
    ]
  ) {
    assert.equal((await call(path)).status, 404, path);
  }
});

Deno.test("pipelines in Epoxi's shapes", async () => {
  const { call, queue } = harness();
  const lane = (routing_key: string, node: string, health: PipelineView["health"]): PipelineView => ({
    node,
    pipeline_name: routing_key,
    routing_key,
    health,
    started_at: "2026-11-24T09:24:23.000Z",
    last_check: "2026-11-24T09:24:23.000Z",
    error: null,
    in_flight: 2,
  });
  queue.lanes = [lane("mx.a.example:10.0.0.1", "n1", "healthy"), lane("mx.b.example", "n1", "unhealthy")];
  const { json } = await call("/admin/pipelines");
  assert.equal(json.pipeline_stats.total_pipelines, 2);
  assert.deepEqual(json.health_summary, { healthy: 1, unhealthy: 1, unknown: 0 });
  assert.deepEqual(json.node_load_distribution, { n1: { pipelines: 2, avg_load: 2 } });
  assert.equal((await call("/admin/pipelines/health")).json.length, 2);
  const one = await call(`/admin/pipelines/${encodeURIComponent("mx.a.example:10.0.0.1")}`);
  assert.equal(one.json[0].health, "healthy");
  assert.equal((await call("/admin/pipelines/nothing")).status, 404);
});

Deno.test("the status of a message out of its recipients'", () => {
  const of = (...statuses: Parameters<typeof overallStatus>[0][number]["status"][]) =>
    overallStatus(statuses.map((status) => ({ status })));
  assert.equal(of("delivered", "deferred", "failed"), "deferred");
  assert.equal(of("queued", "held"), "queued");
  assert.equal(of("delivered", "failed"), "failed");
  assert.equal(of("delivered", "delivered"), "delivered");
  assert.equal(of("cancelled"), "cancelled");
});
