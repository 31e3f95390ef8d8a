import assert from "node:assert/strict";
import { harness } from "./harness.ts";

const MESSAGE = { from: "ann@example.com", to: "bob@example.net", text: "Hello" };
const TOKENS = [
  { name: "reader", token: "read-token-0123456789", scopes: ["read"] },
  { name: "sender", token: "send-token-0123456789", scopes: ["send"] },
  { name: "all", token: "all-token-0123456789", scopes: ["read", "send", "admin"] },
];

Deno.test("without tokens only this machine is answered", async () => {
  const { call } = harness();
  assert.equal((await call("/v1/queue", { client: "192.0.2.1" })).status, 403);
  assert.equal((await call("/", { client: "2001:db8::1" })).status, 403);
  for (const client of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) {
    assert.equal((await call("/v1/queue", { client })).status, 200, client);
  }
  assert.equal((await call("/livez", { client: "192.0.2.1" })).status, 200);
});

Deno.test("without tokens a page of another site can do nothing", async () => {
  const { call, acceptor } = harness();
  const json = MESSAGE;
  const foreign: Record<string, string>[] = [
    { host: "evil.example" },
    { host: "localhost.evil.example" },
    { host: "127.0.0.1.evil.example:4000" },
    { origin: "https://evil.example" },
    { origin: "null" },
    { origin: "http://localhost:8080" },
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
  ];
  for (const headers of foreign) {
    assert.equal((await call("/v1/messages", { json, headers })).status, 403, JSON.stringify(headers));
    assert.equal((await call("/v1/queue", { headers })).status, 403, JSON.stringify(headers));
  }
  const body = JSON.stringify(json);
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]) {
    assert.equal((await call("/v1/messages", { body, headers: { "content-type": type } })).status, 415, type);
    assert.equal(
      (await call("/v1/messages/id1/retry", { body, headers: { "content-type": type } })).status,
      415,
    );
  }
  assert.deepEqual(acceptor.accepted, []);
  const own = [{ origin: "http://localhost:4000" }, { host: "127.0.0.1:4000" }, { host: "[::1]:4000" }];
  for (const headers of own) {
    assert.equal((await call("/v1/messages", { json, headers })).status, 202, JSON.stringify(headers));
  }
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" };
  assert.equal((await call("/", { headers: link })).status, 200);
});

Deno.test("tokens open what their scopes say, from anywhere", async () => {
  const { call, queue } = harness({ apiTokens: TOKENS });
  const client = "192.0.2.1";
  const cases: [string, string, Record<string, number>][] = [
    ["GET", "/v1/queue", { reader: 200, sender: 403, all: 200 }],
    ["GET", "/metrics", { reader: 200, sender: 403, all: 200 }],
    ["GET", "/admin/pipelines", { reader: 200, sender: 403, all: 200 }],
    ["GET", "/v1/captured", { reader: 200, sender: 403, all: 200 }],
    ["GET", "/v1/messages/id1/content", { reader: 403, sender: 403, all: 404 }],
    ["POST", "/v1/messages", { reader: 403, sender: 202, all: 202 }],
    ["POST", "/messages", { reader: 403, sender: 202, all: 202 }],
    ["POST", "/v1/messages/id1/hold", { reader: 403, sender: 403, all: 200 }],
    ["DELETE", "/v1/messages/id1", { reader: 403, sender: 403, all: 200 }],
    ["DELETE", "/v1/dead/id1", { reader: 403, sender: 403, all: 200 }],
  ];
  for (const [method, path, statuses] of cases) {
    const write = method === "GET" ? {} : { json: path === "/messages" ? { message: MESSAGE } : MESSAGE };
    const none = await call(path, { method, ...write, client });
    assert.equal(none.status, 401, path);
    assert.match(none.headers.get("www-authenticate")!, /^Bearer/);
    assert.equal((await call(path, { method, ...write, client, token: "wrong" })).status, 401, path);
    for (const { name, token } of TOKENS) {
      assert.equal(
        (await call(path, { method, ...write, client, token })).status,
        statuses[name],
        `${name} ${path}`,
      );
    }
  }
  assert.deepEqual(queue.calls.find(([kind]) => kind === "hold"), ["hold", "id1", "all"]);
});

Deno.test("health and the page itself need no token; the page holds no data", async () => {
  const { call } = harness({ apiTokens: TOKENS });
  for (const path of ["/ping", "/livez", "/readyz", "/"]) {
    assert.equal((await call(path, { client: "192.0.2.1" })).status, 200);
  }
});

Deno.test("the page runs its own script only and loads nothing from elsewhere", async () => {
  const { call } = harness();
  const { text, headers, type } = await call("/");
  assert.match(type, /^text\/html/);
  const policy = headers.get("content-security-policy")!;
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'sha256-[A-Za-z0-9+/=]+'(;|$)/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.equal(text.match(/<script/g)?.length, 1);
  assert.doesNotMatch(
    text,
    /\son\w+="|src="http|href="http|@import|innerHTML|insertAdjacentHTML|document\.write/,
  );
  const script = /<script>([\s\S]*?)<\/script>/.exec(text)![1]!;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(script));
  assert.ok(policy.includes(`'sha256-${new Uint8Array(digest).toBase64()}'`));
});

Deno.test("every answer is safe from sniffing and caching", async () => {
  const { call } = harness();
  for (const path of ["/", "/v1/queue", "/nothing", "/ping"]) {
    const { headers } = await call(path);
    assert.equal(headers.get("x-content-type-options"), "nosniff", path);
    assert.equal(headers.get("cache-control"), "no-store", path);
  }
});
