/**
 * The server is killed at random moments under load and started again, over and over. Afterwards everyone who was
 * answered 250 has the message, and what came twice is at most what was in flight when it was killed.
 */
import assert from "node:assert/strict";
import { SinkServer } from "../../src/cli/sink_server.ts";
import { EpoxiProcess } from "../support/epoxi.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";
import { until } from "../support/until.ts";

const ROUNDS = 20;
const CONNECTIONS = 12;
const RECIPIENTS = 2;
/**
 * Messages that can be delivered but not yet settled when one lane is killed: one on each of its connections, and
 * those whose settle waits for its commit.
 */
const IN_FLIGHT_MAX = (20 + 200) * RECIPIENTS;

/** Counts each recipient's messages by the name that only it has. */
class Received {
  readonly counts = new Map<string, number>();
  total = 0;

  add(recipients: readonly string[]): void {
    for (const recipient of recipients) {
      this.counts.set(recipient, (this.counts.get(recipient) ?? 0) + 1);
      this.total++;
    }
  }

  duplicates(): number {
    return this.total - this.counts.size;
  }
}

/** Sends on one connection until it is lost, with recipients nobody else has. */
async function untilLost(port: number, name: string, acknowledged: Set<string>): Promise<void> {
  let connection: LoadConnection | undefined;
  try {
    connection = await LoadConnection.open(port);
    for (let n = 0;; n++) {
      const id = `r${name}-${n}`;
      const to = Array.from({ length: RECIPIENTS }, (_, i) => `${id}-${i}@sink.test`);
      await connection.send(`${id}@epoxi.test`, to, loadMessage(id, n % 50 === 0 ? 100_000 : 4096));
      for (const address of to) acknowledged.add(address);
    }
  } catch {
    // Killed: what was under way has no answer.
  } finally {
    connection?.close();
  }
}

Deno.test(`crash: ${ROUNDS} kills under load lose nobody who was answered 250`, async () => {
  const dataDir = await Deno.makeTempDir({ prefix: "epoxi-crash-" });
  const received = new Received();
  await using sink = SinkServer.start({
    listen: { host: "127.0.0.1", port: 0 },
    receive: ({ to }) => ({ write() {}, end: () => received.add(to), abort() {} }),
  });
  const env = {
    EPOXI_ROUTES: `*=127.0.0.1:${sink.address.port}`,
    EPOXI_RETRY_SCHEDULE: "500ms",
    EPOXI_LOG_LEVEL: "warn",
    EPOXI_MAX_CONNECTIONS_PER_CLIENT: "1000",
  };
  const acknowledged = new Set<string>();
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const epoxi = await EpoxiProcess.start({ dataDir, env });
      const load = Promise.all(
        Array.from(
          { length: CONNECTIONS },
          (_, i) => untilLost(epoxi.smtpPort, `${round}-${i}`, acknowledged),
        ),
      );
      const before = acknowledged.size;
      // From the very first messages to full speed, and never the same moment twice.
      const moment = 20 + Math.random() * 400;
      const start = performance.now();
      await until("a message answered 250", () => acknowledged.size > before);
      await until("the moment to kill", () => performance.now() - start > moment);
      await epoxi.crash();
      await load;
    }
    await using _epoxi = await EpoxiProcess.start({ dataDir, env });
    const missing = () => [...acknowledged].filter((address) => !received.counts.has(address));
    await until(
      "delivery of everything that was acknowledged",
      () => missing().length === 0,
      undefined,
      60_000,
    ).catch(
      () => {},
    );
    const lost = missing();
    console.log(
      `${ROUNDS} kills: ${acknowledged.size} recipients answered 250, ${lost.length} lost, ` +
        `${received.duplicates()} delivered twice (at most ${ROUNDS * IN_FLIGHT_MAX} could be in flight)`,
    );
    assert.deepEqual(lost, []);
    assert.ok(acknowledged.size >= ROUNDS * 20, `only ${acknowledged.size} recipients: no load to speak of`);
    assert.ok(
      received.duplicates() <= ROUNDS * IN_FLIGHT_MAX,
      `${received.duplicates()} duplicates, more than can have been in flight`,
    );
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
});
