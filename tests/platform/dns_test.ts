import assert from "node:assert/strict";
import { createResolver, DnsError, parseResolvConf, type Resolver } from "../../src/platform/dns.ts";
import { systemClock } from "../../src/platform/clock.ts";
import { a, DnsServer, mx, type ScriptedAnswer, type ScriptedRecord, soa } from "../support/dns_server.ts";
import { ManualClock } from "../support/manual_clock.ts";

type Script = Readonly<Record<string, ScriptedAnswer | readonly ScriptedRecord[]>>;

async function withServer(
  script: Script,
  test: (resolver: Resolver, server: DnsServer, clock: ManualClock) => Promise<void>,
): Promise<void> {
  await using server = DnsServer.start(script);
  const clock = new ManualClock();
  const resolver = createResolver({ servers: [server.server], clock, random: Math.random, tries: 1 });
  await test(resolver, server, clock);
}

async function code(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(() => undefined, (error) => error);
  assert(error instanceof DnsError, `expected a DnsError, got ${error}`);
  return error.code;
}

Deno.test("mx: preference, names without their last dot, TTL", () =>
  withServer(
    { "MX example.test": [mx(20, "b.example.test."), mx(10, "a.example.test")] },
    async (resolver) => {
      const { records, ttl, secure } = await resolver.mx("example.test.");
      assert.deepEqual(records, [
        { preference: 20, exchange: "b.example.test" },
        { preference: 10, exchange: "a.example.test" },
      ]);
      assert.equal(ttl, 300);
      assert.equal(secure, false);
    },
  ));

Deno.test("a null MX has an empty exchange", () =>
  withServer({ "MX example.test": [mx(0, ".")] }, async (resolver) => {
    assert.deepEqual((await resolver.mx("example.test")).records, [{ preference: 0, exchange: "" }]);
  }));

Deno.test("what is not there is told from what could not be asked", () =>
  withServer({
    "A nodata.test": [a("192.0.2.1")],
    "MX servfail.test": { rcode: "SERVFAIL" },
    "MX refused.test": { rcode: "REFUSED" },
  }, async (resolver) => {
    assert.equal(await code(resolver.mx("nodomain.test")), "ENOTFOUND");
    assert.equal(await code(resolver.mx("nodata.test")), "ENODATA");
    assert.equal(await code(resolver.mx("servfail.test")), "ESERVFAIL");
    assert.equal(await code(resolver.mx("refused.test")), "EREFUSED");
  }));

Deno.test("a server that says nothing is a time-out, and only what may change is temporary", async () => {
  await using server = DnsServer.start({ "MX silent.test": { drop: true } });
  const resolver = createResolver({
    servers: [server.server],
    clock: systemClock,
    random: Math.random,
    timeout: 30,
    tries: 2,
  });
  assert.equal(await code(resolver.mx("silent.test")), "ETIMEOUT");
  assert.equal(server.count("MX silent.test"), 2);
  const temporary = (code: DnsError["code"]) => new DnsError(code, "x.test", "MX", "").temporary;
  assert.deepEqual(
    (["ENOTFOUND", "ENODATA", "ESERVFAIL", "EREFUSED", "ETIMEOUT"] as const).map(temporary),
    [false, false, true, true, true],
  );
});

Deno.test("a closed port is a time-out, not a missing domain", async () => {
  const server = DnsServer.start();
  const closed = server.server;
  await server[Symbol.asyncDispose]();
  const resolver = createResolver({
    servers: [closed],
    clock: systemClock,
    random: Math.random,
    timeout: 50,
    tries: 1,
  });
  assert.equal(await code(resolver.mx("example.test")), "ETIMEOUT");
});

Deno.test("the next server is asked when one fails, is silent or refuses", async () => {
  for (const bad of [{ rcode: "SERVFAIL" }, { rcode: "REFUSED" }, { drop: true }] as const) {
    await using broken = DnsServer.start({ "A host.test": bad });
    await using good = DnsServer.start({ "A host.test": [a("192.0.2.7")] });
    const resolver = createResolver({
      servers: [broken.server, good.server],
      clock: systemClock,
      random: Math.random,
      timeout: 250,
    });
    assert.deepEqual((await resolver.a("host.test")).records, ["192.0.2.7"]);
    assert.equal(broken.asked.length, 1);
  }
});

Deno.test("an answer is kept as long as its TTL, whatever the case of the name", () =>
  withServer({ "A host.test": [{ ...a("192.0.2.1"), ttl: 60 }] }, async (resolver, server, clock) => {
    await resolver.a("host.test");
    clock.advance(59_999);
    await resolver.a("HOST.test.");
    assert.equal(server.asked.length, 1);
    clock.advance(1);
    await resolver.a("host.test");
    assert.equal(server.asked.length, 2);
  }));

Deno.test("a negative answer is kept as its SOA says, and never for long", () =>
  withServer({
    "MX short.test": { rcode: "NXDOMAIN", authorities: [soa(3600, 30)] },
    "MX long.test": { authorities: [soa(86_400, 86_400)] },
  }, async (resolver, server, clock) => {
    for (const [name, seconds] of [["short.test", 30], ["long.test", 900]] as const) {
      await code(resolver.mx(name));
      clock.advance(seconds * 1000 - 1);
      await code(resolver.mx(name));
      assert.equal(server.count(`MX ${name}`), 1);
      clock.advance(1);
      await code(resolver.mx(name));
      assert.equal(server.count(`MX ${name}`), 2);
    }
  }));

Deno.test("failures are not kept", () =>
  withServer({ "A host.test": { rcode: "SERVFAIL" } }, async (resolver, server) => {
    assert.equal(await code(resolver.a("host.test")), "ESERVFAIL");
    server.answers.set("A host.test", { records: [a("192.0.2.1")] });
    assert.deepEqual((await resolver.a("host.test")).records, ["192.0.2.1"]);
  }));

Deno.test("the same question asked at once goes out once", () =>
  withServer({ "A host.test": [a("192.0.2.1")] }, async (resolver, server) => {
    await Promise.all(Array.from({ length: 20 }, () => resolver.a("host.test")));
    assert.equal(server.asked.length, 1);
  }));

Deno.test("aliases are followed within the answer, with the shortest TTL", () =>
  withServer({
    "A alias.test": [
      { type: "CNAME", data: "Middle.test", ttl: 20 },
      { type: "CNAME", data: "end.test", name: "middle.test", ttl: 500 },
      { ...a("192.0.2.5"), name: "END.test" },
      { ...a("192.0.2.6"), name: "elsewhere.test" },
    ],
  }, async (resolver) => {
    const { records, ttl } = await resolver.a("alias.test");
    assert.deepEqual(records, ["192.0.2.5"]);
    assert.equal(ttl, 20);
  }));

Deno.test("a chain that breaks off is asked for to its end", () =>
  withServer({
    "A alias.test": [{ type: "CNAME", data: "end.test" }],
    "A end.test": [a("192.0.2.5")],
  }, async (resolver, server) => {
    assert.deepEqual((await resolver.a("alias.test")).records, ["192.0.2.5"]);
    assert.equal(server.count("A end.test"), 1);
  }));

Deno.test("a chain that ends in nothing is no data, one without end a failure", () =>
  withServer({
    "MX alias.test": { records: [{ type: "CNAME", data: "end.test" }], authorities: [soa(60, 60)] },
    "A loop.test": [{ type: "CNAME", data: "pool.test" }],
    "A pool.test": [{ type: "CNAME", data: "loop.test" }],
  }, async (resolver) => {
    assert.equal(await code(resolver.mx("alias.test")), "ENODATA");
    assert.equal(await code(resolver.a("loop.test")), "ESERVFAIL");
  }));

Deno.test("a truncated answer is fetched over TCP", () =>
  withServer({
    "TXT long.test": {
      truncate: true,
      records: Array.from({ length: 60 }, (_, i) => ({ type: "TXT", data: [`${i}`, "x".repeat(200)] })),
    },
  }, async (resolver, server) => {
    const { records } = await resolver.txt("long.test");
    assert.equal(records.length, 60);
    assert.equal(records[7], "7" + "x".repeat(200));
    assert.deepEqual(server.asked.map(({ over }) => over), ["udp", "tcp"]);
  }));

Deno.test("answers with another id or another question are not ours", () =>
  withServer({ "A host.test": { records: [a("192.0.2.1")], forge: a("203.0.113.66") } }, async (resolver) => {
    assert.deepEqual((await resolver.a("host.test")).records, ["192.0.2.1"]);
  }));

Deno.test("each question has an id and a port of its own", async () => {
  const names = Array.from({ length: 12 }, (_, i) => `host${i}.test`);
  const script = Object.fromEntries(names.map((name) => [`A ${name}`, [a("192.0.2.1")]]));
  await withServer(script, async (resolver, server) => {
    for (const name of names) await resolver.a(name);
    assert(new Set(server.asked.map(({ id }) => id)).size > 6);
    assert(new Set(server.asked.map(({ port }) => port)).size > 6);
  });
});

Deno.test("a server from before EDNS is asked without it", () =>
  withServer({ "A host.test": { rcode: "FORMERR" } }, async (resolver, server) => {
    assert.equal(await code(resolver.a("host.test")), "ESERVFAIL");
    assert.deepEqual(server.asked.map(({ edns }) => edns), [true, false]);
  }));

Deno.test("the AD flag of a resolver on this machine is believed", () =>
  withServer({ "MX signed.test": { authenticated: true, records: [mx(1, "a.test")] } }, async (resolver) => {
    assert.equal((await resolver.mx("signed.test")).secure, true);
  }));

Deno.test("what is no domain name is never asked", () =>
  withServer({}, async (resolver, server) => {
    const wrong = ["", "a..test", `${"x".repeat(64)}.test`, "x.".repeat(127) + "test", ".test"];
    for (const name of wrong) assert.equal(await code(resolver.mx(name)), "ENOTFOUND", name);
    assert.equal(server.asked.length, 0);
  }));

Deno.test("a caller who gives up does not spoil it for others", () =>
  withServer({ "A host.test": [a("192.0.2.1")] }, async (resolver) => {
    const stop = new AbortController();
    const one = resolver.a("host.test", stop.signal);
    const other = resolver.a("host.test");
    stop.abort(new Error("enough"));
    await assert.rejects(one, /enough/);
    assert.deepEqual((await other).records, ["192.0.2.1"]);
  }));

Deno.test("the cache is bounded", () =>
  withServer({ "* a.test": { records: [] } }, async (resolver, server) => {
    await code(resolver.a("a.test"));
    // Names that can't exist are refused before they reach the cache, so real ones fill it.
    for (let i = 0; i < 10_000; i += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, j) => code(resolver.a(`n${i + j}.test`))));
    }
    const before = server.count("A a.test");
    await code(resolver.a("a.test"));
    assert.equal(server.count("A a.test"), before + 1);
  }));

Deno.test("resolv.conf: name servers in order, zone and comments aside; the local one where there is none", () => {
  const text =
    "# comment\nsearch example.test\nnameserver 192.0.2.1\n  nameserver fe80::1%eth0 # x\n;nameserver 9.9.9.9\n";
  assert.deepEqual(parseResolvConf(text), [{ host: "192.0.2.1", port: 53 }, { host: "fe80::1", port: 53 }]);
  assert.deepEqual(parseResolvConf(""), [{ host: "127.0.0.1", port: 53 }]);
});
