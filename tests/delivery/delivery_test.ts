import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { SMTPServer } from "smtp-server";
import { readConfig } from "../../src/config/read_config.ts";
import { connectSmtp, DEFAULT_TIMEOUTS, type Timeouts } from "../../src/delivery/client.ts";
import { type Delivery, startDelivery } from "../../src/delivery/delivery.ts";
import { sendMail } from "../../src/delivery/transaction.ts";
import { outgoing } from "../../src/delivery/mail.ts";
import { createResolver } from "../../src/platform/dns.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { a, DnsServer, mx, type ScriptedAnswer, type ScriptedRecord } from "../support/dns_server.ts";
import { FakeWork, makeClaim } from "../support/fake_work.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { type Script, ScriptedReceiver } from "../support/scripted_receiver.ts";
import { TEST_CERT, TEST_KEY } from "../support/smtp_server.ts";
import { until } from "../support/until.ts";

interface Options {
  readonly env?: Readonly<Record<string, string>>;
  readonly zone?: Readonly<Record<string, ScriptedAnswer | readonly ScriptedRecord[]>>;
  readonly port?: number;
  readonly timeouts?: Partial<Timeouts>;
  readonly maxConnections?: number;
}

/** A delivery side over a fake queue, real sockets and a clock that is moved by hand. */
class Rig implements AsyncDisposable {
  readonly work = new FakeWork();
  readonly clock = new ManualClock();
  readonly metrics = new Metrics();
  readonly lines: string[] = [];
  readonly delivery: Delivery;
  readonly #dns: DnsServer;
  readonly #dataDir: string;

  constructor(options: Options = {}) {
    this.#dns = DnsServer.start(options.zone);
    this.#dataDir = Deno.makeTempDirSync({ prefix: "epoxi-delivery-" });
    const env: Record<string, string> = {
      EPOXI_HOSTNAME: "us.test.example",
      EPOXI_DATA_DIR: this.#dataDir,
      EPOXI_DELIVERY_PRIVATE: "allow",
      EPOXI_DELIVERY_PORT: String(options.port ?? 25),
      ...options.env,
    };
    const config = readConfig("serve", {
      read: (name) => env[name],
      names: () => Object.keys(env),
      readFile: (path) => Deno.readTextFileSync(path),
      hostname: "us.test.example",
      terminal: false,
    });
    const { clock, work, metrics } = this;
    this.delivery = startDelivery({
      config,
      mxAllowed: true,
      nodeId: "node",
      work,
      resolver: createResolver({ servers: [this.#dns.server], clock, random: Math.random, tries: 1 }),
      log: createLog({
        format: "text",
        level: "debug",
        write: (line) => this.lines.push(line),
        now: () => 0,
      }),
      metrics,
      clock,
      random: () => 0.5,
      timeouts: { ...DEFAULT_TIMEOUTS, ...options.timeouts },
      ...(options.maxConnections === undefined ? {} : { maxConnections: options.maxConnections }),
    });
  }

  get dataDir(): string {
    return this.#dataDir;
  }

  /** Waits until so many envelopes are settled. */
  async settled(count: number): Promise<void> {
    await until(`${count} settled`, () => this.work.settled.length >= count);
    assert.equal(this.work.settled.length, count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.delivery.close(AbortSignal.abort());
    await this.#dns[Symbol.asyncDispose]();
    await Deno.remove(this.#dataDir, { recursive: true });
  }
}

/** Receivers on several loopback addresses and one port. */
function receivers(...scripts: Script[]): ScriptedReceiver[] {
  for (;;) {
    const started: ScriptedReceiver[] = [];
    try {
      for (const [i, script] of scripts.entries()) {
        started.push(ScriptedReceiver.start(script, `127.0.0.${i + 2}`, started[0]?.port ?? 0));
      }
      return started;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
      started.forEach((receiver) => void receiver[Symbol.asyncDispose]());
    }
  }
}

const TWO_HOSTS = {
  "MX d.test": [mx(10, "h1.test"), mx(20, "h2.test")],
  "A h1.test": [a("127.0.0.2")],
  "A h2.test": [a("127.0.0.3")],
};

Deno.test("a message goes to its static route, and the connection is kept for the next ones", async () => {
  await using receiver = ScriptedReceiver.start();
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  for (let i = 1; i <= 4; i++) {
    rig.work.offer(queue);
    await rig.settled(i);
  }
  assert.deepEqual(rig.work.outcomes(queue), Array(4).fill("delivered 2.0.0"));
  assert.equal(receiver.connections.length, 1);
  assert.equal(rig.work.settled[0]!.outcomes[0]!.remoteMta, "127.0.0.1");
  assert.match(rig.metrics.text(), /epoxi_deliveries_total\{result="delivered"\} 4/);
  await rig.delivery.close(new AbortController().signal);
  assert.equal(receiver.commands.at(-1), "QUIT");
});

Deno.test("the next host takes the mail when one refuses connections or greets with 4xx or 5xx", async () => {
  for (const greeting of [undefined, "421 4.3.2 busy|close", "451 later", "554 no", "close", "garbage"]) {
    const [first, second] = receivers({ connect: greeting ?? "" }, {});
    if (greeting === undefined) await first![Symbol.asyncDispose]();
    await using rig = new Rig({ zone: TWO_HOSTS, port: second!.port });
    rig.work.offer("d.test");
    await rig.settled(1);
    assert.deepEqual(rig.work.outcomes("d.test"), ["delivered 2.0.0"], greeting);
    assert.equal(rig.work.settled[0]!.outcomes[0]!.remoteMta, "h2.test");
    assert.deepEqual(rig.work.pauses, []);
    await rig.delivery.close(new AbortController().signal);
    if (greeting !== undefined) await first![Symbol.asyncDispose]();
    await second![Symbol.asyncDispose]();
  }
});

Deno.test("a host that could not be reached is tried last for a while", async () => {
  const [first, second] = receivers({}, {});
  const { port } = second!;
  await first![Symbol.asyncDispose]();
  await using rig = new Rig({ zone: TWO_HOSTS, port });
  const failures = () => rig.lines.filter((line) => line.includes("connect failed")).length;
  rig.work.offer("d.test");
  await rig.settled(1);
  assert.equal(failures(), 1);
  // The kept connection goes away; the next one is not made by way of the dead host.
  second!.hangUp();
  await until("it is noticed", () => second!.openConnections === 0);
  rig.work.offer("d.test");
  await rig.settled(2);
  assert.equal(failures(), 1);
  await rig.delivery.close(new AbortController().signal);
  await second![Symbol.asyncDispose]();
});

Deno.test("with every host down one message is deferred, the queue rests, longer each time", async () => {
  const [first] = receivers({});
  const { port } = first!;
  await first![Symbol.asyncDispose]();
  await using rig = new Rig({ zone: TWO_HOSTS, port });
  for (let i = 0; i < 30; i++) rig.work.offer("d.test");
  await until("it rests", () => rig.work.pauses.length > 0);
  await until("what was in hand is settled", () => rig.work.settled.length === rig.work.taken);
  assert(rig.work.settled.length <= 2);
  assert.deepEqual(new Set(rig.work.outcomes("d.test")), new Set(["deferred 4.4.1"]));
  const [outcome] = rig.work.settled[0]!.outcomes;
  assert.equal(outcome!.scope, "destination");
  assert.equal(outcome!.reason, "network");
  const waits = [Math.max(...rig.work.pauses.map(({ ms }) => ms))];
  for (let i = 0; i < 7; i++) {
    rig.clock.advance(waits.at(-1)! + 1);
    rig.work.pauses.length = 0;
    rig.work.resume("d.test");
    await until("it rests again", () => rig.work.pauses.length > 0);
    waits.push(Math.max(...rig.work.pauses.map(({ ms }) => ms)));
    await until("nothing is in hand", () => rig.work.settled.length === rig.work.taken);
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
});

Deno.test("broken STARTTLS: in the clear, and remembered", async () => {
  await using receiver = ScriptedReceiver.start({
    EHLO: "250-mx.test\r\n250-PIPELINING\r\n250 STARTTLS",
    STARTTLS: "220 go|close",
  });
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  rig.work.offer(queue);
  await rig.settled(1);
  receiver.hangUp();
  await until("it is noticed", () => receiver.openConnections === 0);
  rig.work.offer(queue);
  await rig.settled(2);
  assert.deepEqual(rig.work.outcomes(queue), Array(2).fill("delivered 2.0.0"));
  assert.equal(receiver.commands.filter((line) => line === "STARTTLS").length, 1);
  assert.equal(receiver.connections.length, 3);
});

Deno.test("a site that never greets holds two connections, and delays nobody else", async () => {
  await using tarpit = ScriptedReceiver.start({ connect: "" });
  await using live = ScriptedReceiver.start();
  await using rig = new Rig();
  const dead = `[127.0.0.1]:${tarpit.port}`;
  for (let i = 0; i < 50; i++) rig.work.offer(dead);
  for (let i = 0; i < 20; i++) rig.work.offer(`[127.0.0.1]:${live.port}`);
  await rig.settled(20);
  assert.deepEqual(rig.work.outcomes(`[127.0.0.1]:${live.port}`), Array(20).fill("delivered 2.0.0"));
  assert.equal(tarpit.connections.length, 2);
  assert.equal(rig.work.waiting(dead), 48);
});

Deno.test("however many hosts never greet, there is room for those that take mail", async () => {
  const tarpits = Array.from({ length: 6 }, () => ScriptedReceiver.start({ connect: "" }));
  await using live = ScriptedReceiver.start();
  await using rig = new Rig({ maxConnections: 8 });
  const queue = `[127.0.0.1]:${live.port}`;
  const held = () => tarpits.reduce((sum, { connections }) => sum + connections.length, 0);
  rig.work.offer(queue);
  await rig.settled(1);
  for (const { port } of tarpits) for (let i = 0; i < 5; i++) rig.work.offer(`[127.0.0.1]:${port}`);
  await until("all they get is taken", () => held() === 5);
  for (let i = 0; i < 100; i++) rig.work.offer(queue);
  await until("live mail is through", () => rig.work.outcomes(queue).length === 101);
  assert.equal(held(), 5);
  assert.equal(live.connections.length, 3);
  await rig.delivery.close(AbortSignal.abort());
  for (const tarpit of tarpits) await tarpit[Symbol.asyncDispose]();
});

Deno.test("queues of one site take turns", async () => {
  await using receiver = ScriptedReceiver.start({ connect: "" });
  await using rig = new Rig();
  const [big, small] = ["big", "small"].map((name) => `${name}:t@[127.0.0.1]:${receiver.port}`);
  receiver.script = {};
  for (let i = 0; i < 300; i++) rig.work.offer(big!);
  for (let i = 0; i < 5; i++) rig.work.offer(small!);
  await until("the small one is through", () => rig.work.outcomes(small!).length === 5);
  assert(rig.work.outcomes(big!).length < 150, `${rig.work.outcomes(big!).length} of the big one went first`);
  await until("the big one is through", () => rig.work.outcomes(big!).length === 300);
});

Deno.test("the window grows as mail goes through, up to its ceiling", async () => {
  await using receiver = ScriptedReceiver.start();
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  for (let i = 0; i < 1_500; i++) rig.work.offer(queue);
  await until("all are through", () => rig.work.settled.length === 1_500);
  assert.deepEqual(new Set(rig.work.outcomes(queue)), new Set(["delivered 2.0.0"]));
  assert(receiver.connections.length > 5, `${receiver.connections.length} connections`);
  assert(receiver.connections.length <= 20, `${receiver.connections.length} connections`);
});

Deno.test("a connection too many narrows the window; nothing is deferred and nothing rests", async () => {
  await using receiver = ScriptedReceiver.start();
  receiver.script = {
    connect: () => receiver.openConnections <= 3 ? "220 mx.test" : "421 4.7.0 too many connections|close",
  };
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  rig.work.offer(queue);
  await rig.settled(1);
  for (let i = 0; i < 200; i++) rig.work.offer(queue);
  await until("all are through", () => rig.work.settled.length === 201);
  assert.deepEqual(new Set(rig.work.outcomes(queue)), new Set(["delivered 2.0.0"]));
  assert.deepEqual(rig.work.pauses, []);
  assert(receiver.connections.length < 20, `${receiver.connections.length} connections were tried`);
});

Deno.test("a kept connection that the host has just ended costs no attempt", async () => {
  for (const end of ["421 4.4.2 idle too long|close", "close"]) {
    await using receiver = ScriptedReceiver.start({ MAIL: ["250 ok", end, "250 ok"] });
    await using rig = new Rig();
    const queue = `[127.0.0.1]:${receiver.port}`;
    rig.work.offer(queue);
    await rig.settled(1);
    rig.work.offer(queue);
    await rig.settled(2);
    assert.deepEqual(rig.work.outcomes(queue), Array(2).fill("delivered 2.0.0"), end);
    assert.equal(receiver.connections.length, 2);
  }
});

Deno.test("421 on a new connection rests the site", async () => {
  await using receiver = ScriptedReceiver.start({ MAIL: "421 4.3.2 going down|close" });
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  rig.work.offer(queue);
  rig.work.offer(queue);
  await until("it rests", () => rig.work.pauses.length > 0);
  await until("what was in hand is settled", () => rig.work.settled.length === rig.work.taken);
  assert.deepEqual(new Set(rig.work.outcomes(queue)), new Set(["deferred 4.3.2"]));
});

Deno.test("lost after the final dot: in doubt, in the outcome and in the log", async () => {
  await using receiver = ScriptedReceiver.start({ dot: "close" });
  await using rig = new Rig();
  const id = rig.work.offer(`[127.0.0.1]:${receiver.port}`);
  await rig.settled(1);
  assert.equal(rig.work.settled[0]!.outcomes[0]!.reason, "in doubt");
  assert(rig.lines.some((line) => line.includes("in doubt") && line.includes(`id=${id}`)));
});

Deno.test("a settle that fails is tried again, so that nothing is sent twice", async () => {
  await using receiver = ScriptedReceiver.start();
  await using rig = new Rig();
  rig.work.failSettles = 2;
  rig.work.offer(`[127.0.0.1]:${receiver.port}`);
  await until("it is recorded", () => rig.work.settled.length === 1, () => rig.clock.advance(100));
  assert.equal(receiver.contents.length, 1);
  assert.deepEqual(rig.work.released, []);
});

Deno.test("what can't be recorded at all goes back, and its queue rests", async () => {
  await using receiver = ScriptedReceiver.start();
  await using rig = new Rig();
  rig.work.failSettles = Infinity;
  const queue = `[127.0.0.1]:${receiver.port}`;
  rig.work.offer(queue);
  await until("it is back", () => rig.work.released.length === 1, () => rig.clock.advance(100));
  assert.equal(rig.work.released[0]!.reason, "local fault");
  assert.equal(rig.work.pauses.at(-1)!.queue, queue);
  assert.equal(receiver.contents.length, 1);
});

Deno.test("nothing is begun while this process may not deliver", async () => {
  await using receiver = ScriptedReceiver.start();
  await using rig = new Rig();
  rig.work.deliver = false;
  const queue = `[127.0.0.1]:${receiver.port}`;
  rig.work.offer(queue);
  assert.equal(rig.work.taken, 0);
  rig.work.deliver = true;
  rig.work.resume(queue);
  await rig.settled(1);
});

Deno.test("close lets what runs end, says QUIT, and begins nothing more", async () => {
  let answer = "";
  await using receiver = ScriptedReceiver.start({ dot: () => answer });
  await using rig = new Rig();
  const queue = `[127.0.0.1]:${receiver.port}`;
  for (let i = 0; i < 5; i++) rig.work.offer(queue);
  await until("two are under way", () => receiver.contents.length === 2);
  const closed = rig.delivery.close(new AbortController().signal);
  answer = "250 ok";
  await receiver.say("250 2.0.0 queued\r\n");
  await closed;
  assert.deepEqual(rig.work.outcomes(queue), Array(2).fill("delivered 2.0.0"));
  assert.equal(rig.work.taken, 2);
  assert.equal(receiver.commands.filter((line) => line === "QUIT").length, 2);
  rig.work.offer(queue);
  assert.equal(rig.work.taken, 2);
});

Deno.test("a close that must not wait gives back what was not decided, and keeps doubt as doubt", async () => {
  await using silent = ScriptedReceiver.start({ connect: "" });
  await using greeted = ScriptedReceiver.start({ MAIL: "", RCPT: "", DATA: "" });
  await using dot = ScriptedReceiver.start({ dot: "" });
  await using rig = new Rig();
  for (const { port } of [silent, greeted, dot]) rig.work.offer(`[127.0.0.1]:${port}`);
  await until(
    "all are under way",
    () => silent.connections.length === 1 && greeted.commands.length === 4 && dot.contents.length === 1,
  );
  await rig.delivery.close(AbortSignal.abort());
  assert.deepEqual(rig.work.released.map(({ reason }) => reason), ["shutdown", "shutdown"]);
  assert.deepEqual(rig.work.settled.map(({ outcomes }) => outcomes[0]!.reason), ["in doubt"]);
});

Deno.test("a domain that takes no mail fails everyone in its queue", async () => {
  await using rig = new Rig({ zone: { "MX null.test": [mx(0, ".")] } });
  for (let i = 0; i < 120; i++) rig.work.offer("null.test");
  await rig.settled(120);
  assert.deepEqual(new Set(rig.work.outcomes("null.test")), new Set(["failed 5.1.10"]));
});

Deno.test("a DNS outage defers one message and rests the queue, longer each time, until it is over", async () => {
  const [receiver] = receivers({});
  const zone = { ...TWO_HOSTS, "MX d.test": { rcode: "SERVFAIL" as const } };
  await using rig = new Rig({ zone, port: receiver!.port });
  for (let i = 0; i < 5; i++) rig.work.offer("d.test");
  await until("it rests", () => rig.work.pauses.length === 1);
  assert.deepEqual(rig.work.outcomes("d.test"), ["deferred 4.4.3"]);
  rig.work.resume("d.test");
  await until("it rests again", () => rig.work.pauses.length === 2);
  assert.deepEqual(rig.work.pauses.map(({ ms }) => ms), [1000, 2000]);
  await receiver![Symbol.asyncDispose]();
});

Deno.test("mail for us goes to its Maildir, mail for nobody is captured", async () => {
  await using rig = new Rig();
  rig.work.offer("local:us.test", { recipients: ["User@us.test"] });
  rig.work.offer("capture:");
  await rig.settled(2);
  assert.deepEqual(rig.work.outcomes("local:us.test"), ["delivered 2.0.0"]);
  const captured = rig.work.settled.find(({ claim }) => claim.envelope.queue === "capture:");
  assert.equal(captured!.outcomes[0]!.captured, true);
  assert.equal([...Deno.readDirSync(`${rig.dataDir}/mail/us.test/user/new`)].length, 1);
});

Deno.test("lanes come and go: none is left when nothing is to be done", async () => {
  await using receiver = ScriptedReceiver.start({ QUIT: "221 bye|close" });
  await using rig = new Rig();
  rig.work.offer(`[127.0.0.1]:${receiver.port}`);
  await rig.settled(1);
  assert.deepEqual(rig.delivery.pipelines().map(({ health }) => health), ["healthy"]);
  receiver.hangUp();
  await rig.delivery.close(new AbortController().signal);
  assert.deepEqual(rig.delivery.pipelines(), []);
});

interface Peer {
  readonly port: number;
  readonly received: {
    readonly content: string;
    readonly secure: boolean;
    readonly user: string | undefined;
  }[];
  close(): Promise<void>;
}

async function startPeer(options: ConstructorParameters<typeof SMTPServer>[0]): Promise<Peer> {
  const received: Peer["received"] = [];
  const server = new SMTPServer({
    key: await Deno.readTextFile(TEST_KEY),
    cert: await Deno.readTextFile(TEST_CERT),
    authOptional: true,
    disableReverseLookup: true,
    closeTimeout: 100,
    onData(stream, session, callback) {
      const chunks: string[] = [];
      stream.setEncoding("utf8");
      stream.on("data", (chunk: string) => chunks.push(chunk));
      stream.on("end", () => {
        const user = session.user ? String(session.user) : undefined;
        received.push({ content: chunks.join(""), secure: session.secure, user });
        callback(null);
      });
    },
    onAuth(auth, _session, callback) {
      if (auth.username === "user" && auth.password === "sécret") callback(null, { user: "user" });
      else callback(new Error("wrong"));
    },
    ...options,
  });
  // A handshake that breaks off is no reason to end the tests.
  server.on("error", () => {});
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  return {
    port: (server.server.address() as AddressInfo).port,
    received,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

Deno.test("smtp-server: in the clear, and with STARTTLS where it is offered", async () => {
  for (const secure of [false, true]) {
    const peer = await startPeer(secure ? {} : { disabledCommands: ["STARTTLS"] });
    const rig = new Rig();
    try {
      rig.work.offer(`[127.0.0.1]:${peer.port}`, { content: "Subject: x\r\n\r\n..dots\r\n" });
      await rig.settled(1);
      assert.equal(rig.work.settled[0]!.outcomes[0]!.kind, "delivered");
      assert.deepEqual(peer.received, [{ content: "Subject: x\r\n\r\n..dots\r\n", secure, user: undefined }]);
      assert(
        rig.lines.some((line) =>
          line.includes("attempt") && line.includes(secure ? "tls=TLSv1" : "tls=none")
        ),
      );
    } finally {
      await rig.delivery.close(new AbortController().signal);
      await rig[Symbol.asyncDispose]();
      await peer.close();
    }
  }
});

Deno.test("smtp-server: implicit TLS, AUTH, certificates", async () => {
  const implicit = await startPeer({ secure: true });
  const upgraded = await startPeer({});
  const auth = { user: "user", password: "sécret" };
  const base = { host: "127.0.0.1", address: "127.0.0.1", hostname: "us.test" };
  const dialog: string[] = [];
  try {
    for (const [tls, peer] of [["implicit", implicit], ["require", upgraded]] as const) {
      const connection = await connectSmtp({
        ...base,
        port: peer.port,
        tls,
        auth,
        transcript: (side, line) => dialog.push(`${side}: ${line}`),
      });
      assert.equal(connection.tls!.verified, false);
      const [result] = await sendMail(connection, outgoing(makeClaim("id", "q")));
      assert.equal(result!.accepted, true);
      await connection.quit();
      assert.deepEqual(peer.received.map(({ secure, user }) => [secure, user]), [[true, "user"]]);
      await assert.rejects(
        connectSmtp({ ...base, port: peer.port, tls, auth: { ...auth, password: "wrong" } }),
        { stage: "auth" },
      );
      await assert.rejects(connectSmtp({ ...base, port: peer.port, tls, verify: true }), { stage: "tls" });
    }
    assert(!dialog.some((line) => line.includes("sécret") || line.includes(btoa("\0user\0s"))));
    assert(dialog.some((line) => line.includes("********")));
  } finally {
    await implicit.close();
    await upgraded.close();
  }
});

Deno.test("AUTH LOGIN, on this machine also in the clear", async () => {
  await using receiver = ScriptedReceiver.start({
    EHLO: "250-mx.test\r\n250 AUTH LOGIN",
    AUTH: "334 VXNlcm5hbWU6",
    // Verbs are looked up in upper case, and these lines are base64 of user and password.
    "DXNLCG==": "334 UGFzc3dvcmQ6",
    "CGFZCW==": "235 2.7.0 ok",
  });
  const connection = await connectSmtp({
    host: "mx.test",
    address: "127.0.0.1",
    port: receiver.port,
    hostname: "us.test",
    tls: "never",
    auth: { user: "user", password: "pass" },
  });
  await connection.quit();
  assert.deepEqual(receiver.commands.slice(1, 4), ["AUTH LOGIN", "dXNlcg==", "cGFzcw=="]);
});

Deno.test("no password is sent in the clear to another machine", async () => {
  await using receiver = ScriptedReceiver.start({ EHLO: "250-mx.test\r\n250 AUTH PLAIN LOGIN" });
  const connecting = connectSmtp({
    host: "mx.test",
    // Reaches this machine, but is no loopback address.
    address: "0.0.0.0",
    port: receiver.port,
    hostname: "us.test",
    tls: "opportunistic",
    auth: { user: "user", password: "pass" },
  });
  await assert.rejects(connecting, { stage: "auth", message: "no password is sent without TLS" });
  assert.deepEqual(receiver.commands, ["EHLO us.test"]);
});

Deno.test("what comes in the clear after the reply to STARTTLS never reaches the session", async () => {
  await using receiver = ScriptedReceiver.start({
    EHLO: "250-mx.test\r\n250 STARTTLS",
    STARTTLS: "220 go\r\n250-mx.test\r\n250 AUTH PLAIN",
  });
  const base = { host: "mx.test", address: "127.0.0.1", port: receiver.port, hostname: "us.test" };
  await assert.rejects(connectSmtp({ ...base, tls: "require" }), { stage: "tls", fault: "protocol" });
});
