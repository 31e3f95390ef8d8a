/**
 * A hundred thousand messages for a thousand dead domains, retried without mercy, some of their hosts accepting
 * connections and never greeting: live mail must not feel it, memory must not grow with it, and all of it must leave
 * when the destinations come back.
 */
import assert from "node:assert/strict";
import { parseRules } from "../../src/cli/sink_rules.ts";
import { SinkServer } from "../../src/cli/sink_server.ts";
import { EpoxiProcess, freePort } from "../support/epoxi.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";
import { until } from "../support/until.ts";
import { Zone, type ZoneRecord } from "./zone.ts";

const DOMAINS = 1_000;
const MESSAGES = 100_000;
/** Every tenth dead domain's host accepts connections and never greets. */
const TARPIT_EVERY = 10;
const FEEDERS = 20;
const LIVE_MESSAGES = 2_000;
/** One live message is sent each so many milliseconds, however long the ones before take. */
const LIVE_PERIOD = 5;
const RSS_MAX = 350 * 1024 ** 2;
const FACTOR = 1.2;

const LIVE_HOST = "127.77.0.1";
/** Each dead domain has a host of its own, so that none profits from what is known of another. */
const deadHost = (n: number) => `127.80.${n >> 8}.${n & 255}`;
const isTarpit = (n: number) => n % TARPIT_EVERY === 0;

function recordsOf(name: string): readonly ZoneRecord[] | undefined {
  if (name === "live.test") return [{ type: "MX", preference: 10, exchange: "mx.live.test" }];
  if (name === "mx.live.test") return [{ type: "A", address: LIVE_HOST }];
  const [, host, number] = /^(mx\.)?dead(\d+)\.test$/.exec(name) ?? [];
  if (number === undefined) return undefined;
  return host
    ? [{ type: "A", address: deadHost(Number(number)) }]
    : [{ type: "MX", preference: 10, exchange: `mx.${name}` }];
}

/** Sends the backlog: message n goes to domain n modulo all. */
async function feed(port: number): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: FEEDERS }, async () => {
    const connection = await LoadConnection.open(port);
    for (let n = next++; n < MESSAGES; n = next++) {
      await connection.send(
        "backlog@epoxi.test",
        [`x@dead${n % DOMAINS}.test`],
        loadMessage(`backlog-${n}`, 2048),
      );
    }
    connection.close();
  }));
}

/** Live mail at a steady pace; answers the milliseconds each message took from MAIL to the sink, sorted. */
async function live(port: number, name: string, arrivals: ReadonlyMap<string, number>): Promise<number[]> {
  const starts = new Map<string, number>();
  const idle: LoadConnection[] = [];
  const sending = new Set<Promise<void>>();
  const begin = performance.now();
  for (let n = 0; n < LIVE_MESSAGES; n++) {
    await pause(begin + n * LIVE_PERIOD - performance.now());
    const address = `${name}-${n}@live.test`;
    starts.set(address, performance.now());
    const sent = (async () => {
      const connection = idle.pop() ?? await LoadConnection.open(port);
      await connection.send("live@epoxi.test", [address], loadMessage(address, 4096));
      idle.push(connection);
    })().finally(() => sending.delete(sent));
    sending.add(sent);
  }
  await Promise.all(sending);
  for (const connection of idle) connection.close();
  await until(`arrival of ${name} mail`, () => [...starts.keys()].every((address) => arrivals.has(address)));
  return [...starts].map(([address, start]) => arrivals.get(address)! - start).sort((a, b) => a - b);
}

/** The pace of the load is the one thing here that is a matter of the clock. */
function pause(ms: number): Promise<void> {
  return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}

const share = (sorted: readonly number[], part: number) => sorted[Math.floor((sorted.length - 1) * part)]!;

function describe(sorted: readonly number[]): string {
  return [0.5, 0.9, 0.99].map((part) => `p${part * 100} ${share(sorted, part).toFixed(1)} ms`).join(", ");
}

Deno.test({
  name: `backlog: ${MESSAGES} messages for ${DOMAINS} dead domains neither slow live mail nor fill memory`,
  // Thousands of sockets are opened and closed by the sinks; they end with `await using`.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const port = freePort();
    const arrivals = new Map<string, number>();
    await using zone = await Zone.start(recordsOf);
    await using _live = SinkServer.start({
      listen: { host: LIVE_HOST, port },
      receive: ({ to: [to] }) => ({
        write() {},
        end: () => void arrivals.set(to!, performance.now()),
        abort() {},
      }),
    });
    const tarpits = Array.from({ length: DOMAINS }, (_, n) => n).filter(isTarpit).map((n) => {
      return SinkServer.start({
        listen: { host: deadHost(n), port },
        rules: parseRules({ delay: ["greeting=1h"] }),
      });
    });
    await using epoxi = await EpoxiProcess.start({
      env: {
        EPOXI_DNS_SERVERS: `127.0.0.1:${zone.port}`,
        EPOXI_DELIVERY_PORT: `${port}`,
        EPOXI_DELIVERY_PRIVATE: "allow",
        EPOXI_RETRY_SCHEDULE: "1s",
        EPOXI_LOG_LEVEL: "warn",
        EPOXI_MAX_CONNECTIONS_PER_CLIENT: "1000",
      },
    });
    let highest = 0;
    const watch = setInterval(() => highest = Math.max(highest, epoxi.rss()), 250);
    try {
      // The first round warms up both programs and is not compared.
      await live(epoxi.smtpPort, "warm", arrivals);
      const before = await live(epoxi.smtpPort, "before", arrivals);
      await feed(epoxi.smtpPort);
      const beside = await live(epoxi.smtpPort, "beside", arrivals);
      const waiting = (await epoxi.get<{ messages: number }>("/v1/queue")).messages;
      assert.equal(waiting, MESSAGES);

      for (const tarpit of tarpits) await tarpit.close();
      const back = Array.from({ length: DOMAINS }, (_, n) => {
        return SinkServer.start({ listen: { host: deadHost(n), port } });
      });
      const start = performance.now();
      try {
        await until(
          "an empty queue",
          async () => {
            await pause(200);
            return (await epoxi.get<{ messages: number }>("/v1/queue")).messages === 0;
          },
          undefined,
          300_000,
        );
      } finally {
        const received = back.reduce((sum, { counts }) => sum + counts.messages, 0);
        const seconds = (performance.now() - start) / 1000;
        console.log(
          `${received} messages left in ${seconds.toFixed(0)} s; RSS at most ${mebibytes(highest)}`,
        );
        await Promise.all(back.map((sink) => sink.close()));
        assert.equal(received, MESSAGES);
      }
      assert.ok(highest < RSS_MAX, `RSS reached ${mebibytes(highest)}`);
      // Before and after: what the machine does beside this test changes meanwhile.
      const after = await live(epoxi.smtpPort, "after", arrivals);
      const alone = [...before, ...after].sort((a, b) => a - b);
      console.log(
        `live mail alone: ${describe(alone)}; beside ${waiting} waiting messages: ${describe(beside)}`,
      );
      // The median is held to the factor. The tail is printed for a person to judge: on two cores shared with the
      // generator and a thousand sinks it says as much about them as about the server.
      const factor = share(beside, 0.5) / share(alone, 0.5);
      assert.ok(factor <= FACTOR, `the median of live mail grew by a factor of ${factor.toFixed(2)}`);
    } finally {
      clearInterval(watch);
      await Promise.all(tarpits.map((tarpit) => tarpit.close()));
    }
  },
});

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
}
