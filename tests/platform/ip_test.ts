import assert from "node:assert/strict";
import {
  clientKey,
  createNetworks,
  isLoopback,
  normalizeIp,
  parseCidr,
  parseIp,
} from "../../src/platform/ip.ts";

Deno.test("parseIp reads both families, and IPv4 in IPv6", () => {
  assert.equal(parseIp("192.0.2.1")?.toHex(), "c0000201");
  assert.equal(parseIp("::ffff:192.0.2.1")?.toHex(), "c0000201");
  assert.equal(parseIp("::ffff:c000:201")?.toHex(), "c0000201");
  assert.equal(parseIp("2001:db8::8:1")?.toHex(), "20010db8000000000000000000080001");
  assert.equal(parseIp("1:2:3:4:5:6:7:8")?.toHex(), "00010002000300040005000600070008");
  assert.equal(parseIp("::")?.toHex(), "0".repeat(32));
  assert.equal(parseIp("fe80::1%eth0")?.toHex(), "fe80" + "0".repeat(27) + "1");
  for (const text of ["", "1.2.3", "1.2.3.256", ":::", "x"]) assert.equal(parseIp(text), undefined, text);
});

Deno.test("networks", () => {
  const inside = createNetworks([
    "10.0.0.0/8",
    "192.0.2.128/25",
    "2001:db8::/33",
    "::1",
    "::ffff:198.51.100.0/120",
  ]);
  for (
    const ip of ["10.1.2.3", "::ffff:10.0.0.1", "192.0.2.200", "2001:db8:7fff::1", "::1", "198.51.100.9"]
  ) {
    assert.equal(inside(ip), true, ip);
  }
  for (
    const ip of ["11.0.0.1", "192.0.2.127", "2001:db8:8000::1", "::2", "0.0.0.1", "junk", "198.51.101.0"]
  ) {
    assert.equal(inside(ip), false, ip);
  }
  assert.equal(createNetworks(["0.0.0.0/0"])("192.0.2.1"), true);
  assert.equal(createNetworks(["0.0.0.0/0"])("::1"), false);
  for (const text of ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0/8/8", "x/8", "::/129"]) {
    assert.throws(() => parseCidr(text), RangeError, text);
  }
});

Deno.test("loopback, client keys, usual text", () => {
  assert.deepEqual(["127.9.9.9", "::1", "::ffff:127.0.0.1"].map(isLoopback), [true, true, true]);
  assert.deepEqual(["128.0.0.1", "::2", "::", "localhost"].map(isLoopback), [false, false, false, false]);
  assert.equal(clientKey("2001:db8::1"), clientKey("2001:db8::ffff:2"));
  assert.notEqual(clientKey("2001:db8::1"), clientKey("2001:db8:0:1::1"));
  assert.equal(clientKey("::ffff:192.0.2.1"), "192.0.2.1");
  assert.equal(normalizeIp("::FFFF:192.0.2.1"), "192.0.2.1");
  assert.equal(normalizeIp("FE80::1%eth0"), "fe80::1");
});
