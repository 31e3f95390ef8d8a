import assert from "node:assert/strict";
import { request } from "node:https";
import { serveHttp } from "../../src/http/serve.ts";
import { silentLog } from "../../src/telemetry/log.ts";
import { harness } from "./harness.ts";

const LOOPBACK = { host: "127.0.0.1", port: 0 };

Deno.test("serves on every listener, knows the client's address, and lets the ports go", async () => {
  const { app, queue } = harness();
  queue.contents.set("id1", new Uint8Array(300_000).fill(65));
  const server = serveHttp(app, { http: [LOOPBACK, { host: "::1", port: 0 }], https: [], log: silentLog });
  const [v4, v6] = server.addresses;
  assert.equal(await (await fetch(`http://127.0.0.1:${v4!.port}/ping`)).text(), "pong!");
  assert.equal(await (await fetch(`http://[::1]:${v6!.port}/ping`)).text(), "pong!");
  const raw = await fetch(`http://127.0.0.1:${v4!.port}/v1/captured/id1/raw`);
  assert.equal((await raw.bytes()).length, 300_000);
  const sent = await fetch(`http://127.0.0.1:${v4!.port}/v1/messages`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ from: "a@example.com", to: "b@example.net", text: "x" }),
  });
  assert.equal(sent.status, 202);
  await sent.body?.cancel();
  await server.close();
  await assert.rejects(fetch(`http://127.0.0.1:${v4!.port}/ping`));
});

Deno.test("a port in use is told by name, and what was opened before is closed", async () => {
  const { app } = harness();
  const first = serveHttp(app, { http: [LOOPBACK], https: [], log: silentLog });
  const taken = { host: "127.0.0.1", port: first.addresses[0]!.port };
  assert.throws(
    () => serveHttp(app, { http: [LOOPBACK, taken], https: [], log: silentLog }),
    { message: `can't listen on http://127.0.0.1:${taken.port}: the port is in use` },
  );
  assert.throws(() => serveHttp(app, { http: [], https: [LOOPBACK], log: silentLog }), /needs a certificate/);
  await first.close();
});

Deno.test("closing finishes what is being answered, and breaks off what never ends", async () => {
  const { app, queue } = harness();
  queue.content = () => Promise.resolve(endlessly());
  const started = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  app.get("/slow", async (c) => {
    started.resolve();
    await finish.promise;
    return c.text("done");
  });
  app.get(
    "/endless",
    () => new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(1)) })),
  );
  const server = serveHttp(app, { http: [LOOPBACK], https: [], log: silentLog });
  const base = `http://127.0.0.1:${server.addresses[0]!.port}`;
  const slow = fetch(`${base}/slow`).then((response) => response.text());
  await started.promise;
  const endless = await fetch(`${base}/v1/captured/id1/raw`);
  const closed = server.close(200);
  finish.resolve();
  assert.equal(await slow, "done");
  await closed;
  await assert.rejects((async () => {
    for await (const _ of endless.body!);
  })());
});

async function* endlessly(): AsyncGenerator<Uint8Array> {
  for (;;) {
    await Promise.resolve();
    yield new Uint8Array(1000);
  }
}

Deno.test("HTTPS serves with its certificate, and goes on with another one on the same port", async () => {
  const { app } = harness();
  const [cert, key] = ["cert", "key"].map((name) =>
    Deno.readTextFileSync(new URL(`../support/tls/test_only_${name}.pem`, import.meta.url))
  );
  const tls = { cert: cert!, key: key! };
  const server = serveHttp(app, { http: [], https: [LOOPBACK], tls, log: silentLog });
  const { port } = server.addresses[0]!;
  assert.equal(await pingOverTls(port), "pong!");
  await server.reload(tls);
  assert.equal(await pingOverTls(port), "pong!");
  await assert.rejects(server.reload({ cert: "nonsense", key: key! }), /can't be read/);
  assert.equal(await pingOverTls(port), "pong!");
  await server.close();
});

/** What stands here is that TLS is spoken; whom it trusts is not asked of a test certificate. */
function pingOverTls(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", port, path: "/ping", rejectUnauthorized: false, agent: false });
    call.on("response", (response) => {
      let text = "";
      response.on("data", (chunk: Uint8Array) => text += new TextDecoder().decode(chunk));
      response.on("end", () => resolve(text));
    });
    call.on("error", reject);
    call.end();
  });
}
