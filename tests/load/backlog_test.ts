/**
 * A hundred thousand messages for a thousand dead domains, retried without mercy, some of their hosts accepting
 * connections and never greeting: live mail must not feel it, memory must not grow with it, and all of it must leave
 * when the destinations come back.
 */
import assert from "node:assert/strict";
import { parseRules } from "../../src/cli/sink_rules.ts";
import { SinkServer } from "../../src/cli/sink_server.ts";
import { DnsServer } from "../support/dns_server.ts";
import { EpoxiProcess, freePort, until } from "../support/epoxi.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";

const DOMAINS = 1_000;
const MESSAGES = 100_000;
/** Every tenth dead domain's host accepts connections and never greets. */
const TARPIT_EVERY = 10;
const FEEDERS = 20;
const LIVE_MESSAGES = 1_500;
const RSS_MAX = 350 * 1024 ** 2;
const FACTOR = 1.2;

const LIVE_HOST = "127.77.0.1";
const TARPIT_HOST = "127.78.0.1";
/** Each dead domain has a host of its own, so that none profits from what is known of another. */
const deadHost = (n: number) => n % TARPIT_EVERY === 0 ? TARPIT_HOST : `127.80.${n >> 8}.${n & 255}`;

function zone(): DnsServer {
  const dns = DnsServer.start();
  dns.set("live.test", "MX", [{ preference: 10, exchange: "mx.live.test" }]);
  dns.set("mx.live.test", "A", [LIVE_HOST]);
  for (let n = 0; n < DOMAINS; n++) {
    dns.set(`dead${n}.test`, "MX", [{ preference: 10, exchange: `mx.dead${n}.test` }]);
    dns.set(`mx.dead${n}.test`, "A", [deadHost(n)]);
  }
  return dns;
}
