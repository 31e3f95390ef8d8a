import assert from "node:assert/strict";
import { createResolver, type Resolver } from "../../src/platform/dns.ts";
import { ownAddresses } from "../../src/platform/own_addresses.ts";
import { findSite, NoRoute, type RouteOptions, targetsOf } from "../../src/delivery/route.ts";
import { parseNextHop } from "../../src/queue/next_hop.ts";
import { a, aaaa, DnsServer, mx, type ScriptedAnswer, type ScriptedRecord } from "../support/dns_server.ts";
import { ManualClock } from "../support/manual_clock.ts";

type Script = Readonly<Record<string, ScriptedAnswer | readonly ScriptedRecord[]>>;
type Route = (queue: string, options?: Partial<RouteOptions>) => Promise<string[]>;

/** Runs `test` with a function from a queue to what is tried: `host address:port`, or `host status kind`. */
async function withZone(
  script: Script,
  test: (route: Route, resolver: Resolver) => Promise<void>,
): Promise<void> {
  await using server = DnsServer.start(script);
  const resolver = createResolver({
    servers: [server.server],
    clock: new ManualClock(),
    random: Math.random,
    tries: 1,
  });
  const route: Route = async (queue, options = {}) => {
    const all: RouteOptions = {
      resolver,
      deliveryPort: 25,
      deliveryIp: "any",
      deliveryPrivate: "deny",
      hostname: "us.test",
      mxAllowed: true,
      random: () => 0.5,
      ...options,
    };
    const tried: string[] = [];
    try {
      const site = await findSite(parseNextHop(queue), all);
      for await (const target of targetsOf(site, all)) {
        tried.push(
          "address" in target
            ? `${target.host.name} ${target.address}:${target.host.port}`
            : `${target.host.name} ${shown(target.problem)}`,
        );
      }
    } catch (error) {
      if (!(error instanceof NoRoute)) throw error;
      tried.push(shown(error));
    }
    return tried;
  };
  await test(route, resolver);
}

function shown({ outcome }: NoRoute): string {
  assert.equal(outcome.scope, "destination");
  assert.equal(outcome.fromRemote, false);
  return `${outcome.status} ${outcome.kind}${outcome.reason ? ` (${outcome.reason})` : ""}`;
}

const HOSTS: Script = {
  "A a.test": [a("11.0.0.1")],
  "A b.test": [a("11.0.0.2")],
  "A c.test": [a("11.0.0.3")],
  "A us.test": [a("11.0.0.9")],
};

Deno.test("MX hosts in order of preference, on the delivery port", () =>
  withZone(
    { ...HOSTS, "MX d.test": [mx(30, "c.test"), mx(10, "A.test."), mx(20, "b.test")] },
    async (route) => {
      assert.deepEqual(await route("d.test"), [
        "a.test 11.0.0.1:25",
        "b.test 11.0.0.2:25",
        "c.test 11.0.0.3:25",
      ]);
      assert.deepEqual(
        (await route("campaign:tenant@d.test", { deliveryPort: 2525 }))[0],
        "a.test 11.0.0.1:2525",
      );
    },
  ));

Deno.test("hosts of one preference are shuffled, others are not", () =>
  withZone(
    { ...HOSTS, "MX d.test": [mx(10, "a.test"), mx(10, "b.test"), mx(20, "c.test")] },
    async (route) => {
      const orders = new Set<string>();
      for (let seed = 1; seed <= 30; seed++) {
        let state = seed;
        const random = () => (state = state * 16807 % 2147483647) / 2147483647;
        const order = (await route("d.test", { random })).map((each) => each[0]).join("");
        orders.add(order);
      }
      assert.deepEqual([...orders].sort(), ["abc", "bac"]);
    },
  ));

Deno.test("domains with the same hosts share a site, whatever their order", () =>
  withZone({
    "MX one.test": [mx(1, "a.test"), mx(2, "b.test")],
    "MX two.test": [mx(5, "B.test"), mx(5, "a.test")],
  }, async (_, resolver) => {
    const options: RouteOptions = {
      resolver,
      deliveryPort: 25,
      deliveryIp: "any",
      deliveryPrivate: "deny",
      hostname: "us.test",
      mxAllowed: true,
      random: Math.random,
    };
    const sites = ["one.test", "two.test"].map((domain) => findSite({ kind: "mx", domain }, options));
    assert.deepEqual((await Promise.all(sites)).map(({ name }) => name), ["a.test,b.test", "a.test,b.test"]);
  }));

Deno.test("without MX the domain itself is the host; without an address it can't get mail", () =>
  withZone({ "A addr.test": [a("11.0.0.7")], "TXT none.test": [] }, async (route) => {
    assert.deepEqual(await route("addr.test"), ["addr.test 11.0.0.7:25"]);
    assert.deepEqual(await route("none.test"), ["5.1.2 failed"]);
  }));

Deno.test("null MX, unknown domain, no domain at all", () =>
  withZone({
    ...HOSTS,
    "MX null.test": [mx(0, ".")],
    "MX mixed.test": [mx(0, "."), mx(10, "a.test")],
  }, async (route) => {
    assert.deepEqual(await route("null.test"), ["5.1.10 failed"]);
    assert.deepEqual(await route("mixed.test"), ["a.test 11.0.0.1:25"]);
    assert.deepEqual(await route("unknown.test"), ["5.1.2 failed"]);
    assert.deepEqual(await route("a..b"), ["5.1.2 failed"]);
    assert.deepEqual(await route(`${"x".repeat(64)}.test`), ["5.1.2 failed"]);
  }));

Deno.test("a DNS outage never fails mail, at whatever step", async () => {
  for (const outage of [{ rcode: "SERVFAIL" }, { rcode: "REFUSED" }] as const) {
    await withZone({
      "MX d.test": outage,
      "MX implicit.test": [],
      "A implicit.test": outage,
      "AAAA implicit.test": outage,
      "MX e.test": [mx(1, "mx.test")],
      "A mx.test": outage,
      "AAAA mx.test": [],
    }, async (route) => {
      assert.deepEqual(await route("d.test"), ["4.4.3 deferred (dns)"]);
      assert.deepEqual(await route("implicit.test"), ["4.4.3 deferred (dns)"]);
      assert.deepEqual(await route("e.test"), ["mx.test 4.4.3 deferred (dns)"]);
    });
  }
});

Deno.test("an MX without address is skipped, and is no reason to fail", () =>
  withZone({ ...HOSTS, "MX d.test": [mx(1, "gone.test"), mx(2, "b.test")] }, async (route) => {
    assert.deepEqual(await route("d.test"), ["gone.test 4.4.4 deferred (dns)", "b.test 11.0.0.2:25"]);
  }));

Deno.test("our own name takes itself and all that is not preferred to it out of the list", () =>
  withZone({
    ...HOSTS,
    "MX d.test": [mx(10, "a.test"), mx(20, "US.test"), mx(20, "b.test"), mx(30, "c.test")],
    "MX best.test": [mx(10, "us.test"), mx(20, "a.test")],
  }, async (route) => {
    assert.deepEqual(await route("d.test"), ["a.test 11.0.0.1:25"]);
    assert.deepEqual(await route("best.test"), ["5.4.6 failed"]);
    assert.deepEqual(await route("us.test"), ["5.4.6 failed"]);
  }));

Deno.test("so does one of our addresses under another name", () =>
  withZone({
    ...HOSTS,
    "MX d.test": [mx(10, "a.test"), mx(20, "b.test"), mx(20, "c.test")],
    "MX best.test": [mx(10, "a.test"), mx(10, "b.test"), mx(20, "c.test")],
  }, async (route) => {
    assert.deepEqual(await route("d.test", { ownAddresses: ["11.0.0.3"] }), ["a.test 11.0.0.1:25"]);
    assert.deepEqual(await route("best.test", { ownAddresses: ["11.0.0.2"] }), ["b.test 5.4.6 failed"]);
    assert.deepEqual(await route("[a.test]:2525", { ownAddresses: ["11.0.0.1"] }), ["a.test 11.0.0.1:2525"]);
  }));

Deno.test("own addresses: what listens on the delivery port, a wildcard standing for every interface", () => {
  const listeners = [
    { host: "192.0.2.1", port: 25 },
    { host: "192.0.2.2", port: 2525 },
    { host: "::ffff:192.0.2.3", port: 25 },
    { host: "mx.test", port: 25 },
  ];
  assert.deepEqual(ownAddresses(listeners, 25), ["192.0.2.1", "192.0.2.3"]);
  const interfaces = Deno.networkInterfaces().map(({ address }) => address)
    .filter((address) => !/^127\.|^::1$/.test(address));
  assert.deepEqual(ownAddresses([{ host: "0.0.0.0", port: 25 }], 25).length, new Set(interfaces).size);
  assert.deepEqual(ownAddresses([{ host: "0.0.0.0", port: 2525 }], 25), []);
});

Deno.test("MX hosts on loopback and private networks are refused unless allowed", async () => {
  const bad = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "0.0.0.0"];
  for (const address of bad) {
    await withZone({ "MX d.test": [mx(1, "h.test")], "A h.test": [a(address)] }, async (route) => {
      assert.deepEqual(await route("d.test"), ["h.test 5.4.4 failed"]);
      assert.deepEqual(await route("d.test", { deliveryPrivate: "allow" }), [`h.test ${address}:25`]);
      assert.deepEqual(await route("[h.test]:25"), [`h.test ${address}:25`]);
    });
  }
  for (const address of ["::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::"]) {
    await withZone({ "MX d.test": [mx(1, "h.test")], "AAAA h.test": [aaaa(address)] }, async (route) => {
      assert.deepEqual(await route("d.test"), ["h.test 5.4.4 failed"], address);
    });
  }
});

Deno.test("a private address beside a public one is left out", () =>
  withZone({ "MX d.test": [mx(1, "h.test")], "A h.test": [a("127.0.0.1"), a("11.0.0.1")] }, async (route) => {
    assert.deepEqual(await route("d.test"), ["h.test 11.0.0.1:25"]);
  }));

Deno.test("address literals and MX records that are addresses obey the same rules", () =>
  withZone({ "MX d.test": [mx(1, "11.0.0.1")], "MX e.test": [mx(1, "127.0.0.1")] }, async (route) => {
    assert.deepEqual(await route("[11.0.0.5]"), ["11.0.0.5 11.0.0.5:25"]);
    assert.deepEqual(await route("[IPv6:2600::1]"), ["2600::1 2600::1:25"]);
    assert.deepEqual(await route("[127.0.0.1]"), ["127.0.0.1 5.4.4 failed"]);
    assert.deepEqual(await route("[IPv6:::1]"), ["::1 5.4.4 failed"]);
    assert.deepEqual(await route("d.test"), ["11.0.0.1 11.0.0.1:25"]);
    assert.deepEqual(await route("e.test"), ["127.0.0.1 5.4.4 failed"]);
  }));

Deno.test("the family of addresses is chosen by setting", () =>
  withZone({
    "MX d.test": [mx(1, "h.test")],
    "A h.test": [a("11.0.0.1")],
    "AAAA h.test": [aaaa("2600::1")],
    "MX four.test": [mx(1, "a4.test")],
    "A a4.test": [a("11.0.0.1")],
  }, async (route) => {
    assert.deepEqual(await route("d.test", { deliveryIp: "4" }), ["h.test 11.0.0.1:25"]);
    assert.deepEqual(await route("d.test", { deliveryIp: "6" }), ["h.test 2600::1:25"]);
    assert.deepEqual(await route("d.test"), ["h.test 11.0.0.1:25", "h.test 2600::1:25"]);
    assert.deepEqual(await route("four.test", { deliveryIp: "6" }), ["a4.test 4.4.4 deferred (dns)"]);
  }));

Deno.test("static routes go where they say, without a look at MX, also by a name only this machine knows", () =>
  withZone({ "MX relay.test": [mx(1, "a.test")], "A relay.test": [a("10.0.0.25")] }, async (route) => {
    assert.deepEqual(await route("[relay.test]:587"), ["relay.test 10.0.0.25:587"]);
    assert.deepEqual(await route("[127.0.0.1]:2526"), ["127.0.0.1 127.0.0.1:2526"]);
    assert.deepEqual(await route("[::1]:2526"), ["::1 ::1:2526"]);
    assert.deepEqual(await route("[localhost]:2526", { deliveryIp: "4" }), ["localhost 127.0.0.1:2526"]);
    assert.deepEqual(await route("[nowhere.invalid]:25"), ["nowhere.invalid 4.4.4 deferred (dns)"]);
  }));

Deno.test("a name the world's hosts would not believe stops MX delivery, not static routes", () =>
  withZone({ ...HOSTS, "MX d.test": [mx(1, "a.test")] }, async (route) => {
    assert.deepEqual(await route("d.test", { mxAllowed: false }), ["4.3.5 deferred (local fault)"]);
    assert.deepEqual(await route("[a.test]:25", { mxAllowed: false }), ["a.test 11.0.0.1:25"]);
  }));

Deno.test("international domains are asked for by their A-labels", () =>
  withZone({ ...HOSTS, "MX xn--bcher-kva.test": [mx(1, "a.test")] }, async (route) => {
    assert.deepEqual(await route("bücher.test"), ["a.test 11.0.0.1:25"]);
  }));

Deno.test("of any number of hosts only so many are tried", () =>
  withZone({
    "MX d.test": Array.from({ length: 30 }, (_, i) => mx(i, `h${i}.test`)),
    ...Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`A h${i}.test`, [a(`11.0.1.${i}`)]])),
  }, async (route) => {
    const tried = await route("d.test");
    assert.equal(tried.length, 10);
    assert.equal(tried[0], "h0.test 11.0.1.0:25");
  }));
