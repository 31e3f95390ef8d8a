import assert from "node:assert/strict";
import { createTransport } from "nodemailer";
import { CertificateStore } from "../../src/platform/tls_server.ts";
import { createAuthenticator } from "../../src/server/auth.ts";
import { createSmtpServer } from "../../src/server/server.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import type { Log } from "../../src/telemetry/log.ts";
import { silentLog } from "../../src/telemetry/log.ts";
import { Unavailable } from "../../src/queue/model.ts";
import {
  authMessage,
  decodeBase64,
  decodeServerFirst,
  encodeBase64,
  encodeClientFinalWithoutProof,
  encodeClientFirst,
} from "../../src/smtp/sasl.ts";
import { clientProof } from "../../src/smtp/scram.ts";
import { LineClient } from "../support/line_client.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryAcceptor } from "../support/memory_acceptor.ts";
import {
  startTestServer,
  TEST_CERT,
  TEST_CONFIG,
  TEST_KEY,
  type TestServer,
} from "../support/smtp_server.ts";
import { until } from "../support/until.ts";

const encodeText = (text: string) => new TextEncoder().encode(text);

async function greeted(server: TestServer): Promise<LineClient> {
  const client = await LineClient.connect(server.port);
  await client.reply();
  await client.command("EHLO c.example");
  return client;
}

async function inData(server: TestServer): Promise<LineClient> {
  const client = await greeted(server);
  await client.command("MAIL FROM:<a@b.example>");
  await client.command("RCPT TO:<user@local.test>");
  assert.match(await client.command("DATA"), /^354/);
  return client;
}

/** Runs `test` with a server, and stops it. */
async function withServer(
  options: Parameters<typeof startTestServer>[0],
  test: (server: TestServer) => Promise<void>,
): Promise<void> {
  const server = await startTestServer(options);
  try {
    await test(server);
  } finally {
    await server.stop();
  }
}

Deno.test("250 comes after the commit, not before", async () => {
  const acceptor = new MemoryAcceptor();
  let commit = () => {};
  const committed = new Promise<void>((resolve) => commit = resolve);
  acceptor.beforeCommit = () => committed;
  await withServer({ acceptor }, async (server) => {
    const client = await inData(server);
    let answered = false;
    const answer = client.command("Subject: x\r\n\r\n.").then((text) => {
      answered = true;
      return text;
    });
    const other = await greeted(server);
    for (let i = 0; i < 5; i++) await other.command("NOOP");
    assert.equal(answered, false);
    commit();
    assert.match(await answer, /^250 2\.0\.0 OK queued as id1$/);
    assert.equal(acceptor.messages.length, 1);
    client.close();
    other.close();
  });
});

Deno.test("what the queue cannot keep is answered 4xx, and the session goes on", async () => {
  const errors: string[] = [];
  const log: Log = { ...silentLog, error: (event, fields) => errors.push(`${event} ${fields?.error}`) };
  const acceptor = new MemoryAcceptor();
  await withServer({ acceptor, log }, async (server) => {
    const client = await greeted(server);
    const envelope = async () => {
      await client.command("MAIL FROM:<a@b.example>");
      await client.command("RCPT TO:<user@local.test>");
    };
    acceptor.unavailable = "disk full";
    assert.equal(
      await client.command("MAIL FROM:<a@b.example>"),
      "452 4.3.1 Mail cannot be accepted just now, try again later",
    );
    acceptor.unavailable = undefined;
    await envelope();
    acceptor.unavailable = "disk full";
    assert.match(await client.command("DATA"), /^452 4\.3\.1/);
    acceptor.unavailable = undefined;
    await envelope();
    acceptor.unavailable = "disk full";
    assert.match(await client.command("BDAT 6 LAST\r\nQUIT"), /^452 4\.3\.1/);
    acceptor.unavailable = undefined;
    acceptor.beforeCommit = () => {
      throw new Unavailable("commit failed");
    };
    await envelope();
    await client.command("DATA");
    assert.match(await client.command("."), /^452 4\.3\.1/);
    acceptor.beforeCommit = () => {
      throw new Error("secret inner state");
    };
    await envelope();
    await client.command("DATA");
    assert.equal(await client.command("."), "451 4.3.0 Local fault, try again later");
    assert.deepEqual(errors, ["reception failed secret inner state"]);
    acceptor.beforeCommit = () => {};
    await envelope();
    await client.command("DATA");
    assert.match(await client.command("."), /^250/);
    assert.equal(acceptor.messages.length, 1);
    assert.equal(acceptor.aborted, 2);
    client.close();
  });
});

Deno.test("a client lost in the middle of a message leaves nothing", async () => {
  await withServer({}, async (server) => {
    const client = await inData(server);
    await client.send("Subject: x\r\n\r\nhalf");
    client.close();
    const chunked = await greeted(server);
    await chunked.command("MAIL FROM:<a@b.example>");
    await chunked.command("RCPT TO:<user@local.test>");
    assert.match(await chunked.command("BDAT 4\r\nhalf"), /^250/);
    chunked.close();
    await until("both gone", () => server.sessions === 0);
    assert.equal(server.acceptor.aborted, 2);
    assert.equal(server.acceptor.messages.length, 0);
  });
});

Deno.test("a large message comes through byte for byte, in DATA and in BDAT", async () => {
  await withServer({ config: { maxMessageSize: 30_000_000 } }, async (server) => {
    const line = new Uint8Array(1000).map((_, i) => i < 998 ? 33 + i % 90 : 0);
    line.set([13, 10], 998);
    const body = new Uint8Array(25 * 1024 * 1000);
    for (let at = 0; at < body.length; at += 1000) body.set(line, at);
    const header = new TextEncoder().encode("Subject: large\r\n\r\n");
    const whole = new Uint8Array(header.length + body.length);
    whole.set(header);
    whole.set(body, header.length);

    const client = await inData(server);
    // No line begins with a dot, so that nothing is stuffed.
    await client.send(whole);
    assert.match(await client.command("."), /^250/);
    await client.command("MAIL FROM:<a@b.example>");
    await client.command("RCPT TO:<user@local.test>");
    await client.send(`BDAT ${whole.length} LAST\r\n`);
    await client.send(whole);
    assert.match((await client.reply()).join(), /^250/);
    for (const { content } of server.acceptor.messages) {
      const start = content.length - whole.length;
      assert.ok(content.subarray(start).every((byte, i) => byte === whole[i]));
      assert.match(new TextDecoder().decode(content.subarray(0, start)), /^Received: .*\r\n$/s);
    }
    assert.equal(server.acceptor.messages.length, 2);
    client.close();
  });
});

Deno.test("a message that came round 50 times is refused, one of 49 is not", async () => {
  await withServer({}, async (server) => {
    const client = await inData(server);
    const hops = (count: number) =>
      "Received: from a by b\r\n".repeat(count) + "Subject: x\r\n\r\nReceived: body\r\n.";
    assert.match(await client.command(hops(50)), /^554 5\.4\.6/);
    await client.command("MAIL FROM:<a@b.example>");
    await client.command("RCPT TO:<user@local.test>");
    await client.command("DATA");
    assert.match(await client.command(hops(49)), /^250/);
    client.close();
  });
});

for (const tls of [false, true]) {
  Deno.test(`an idle client is told 421 in time, ${tls ? "over TLS" : "in the clear"}`, async () => {
    const clock = new ManualClock();
    await withServer({ clock, implicitTls: tls, config: { smtpTimeout: 60_000 } }, async (server) => {
      const client = tls ? await LineClient.connectTls(server.port) : await LineClient.connect(server.port);
      await client.reply();
      clock.advance(59_000);
      assert.match(await client.command("EHLO c.example"), /^250/);
      clock.advance(59_000);
      assert.match(await client.command("NOOP"), /^250/);
      const last = client.line();
      clock.advance(60_000);
      assert.equal(await last, "421 4.4.2 Timeout, closing the connection");
      assert.equal(await client.line(), undefined);
      await until("closed", () => server.sessions === 0);
      client.close();
    });
  });
}

Deno.test("drops do not keep a connection open: neither in a line nor in content", async () => {
  const clock = new ManualClock();
  await withServer({ clock, config: { smtpTimeout: 60_000 } }, async (server) => {
    const slow = await greeted(server);
    const data = await inData(server);
    for (let i = 0; i < 3; i++) {
      clock.advance(15_000);
      await slow.send("N");
      await data.send("x");
      // Something that answers, so that the drops have been read.
      (await greeted(server)).close();
    }
    const ends = [slow.line(), data.line()];
    clock.advance(15_000);
    assert.match(`${await ends[0]}`, /^421 4\.4\.2/);
    assert.match(`${await ends[1]}`, /^421 4\.4\.2/);
    await until("closed", () => server.sessions === 0);
    assert.equal(server.acceptor.aborted, 1);
    slow.close();
    data.close();
  });
});

Deno.test("a silent TLS handshake is ended", async () => {
  const clock = new ManualClock();
  await withServer({ clock, implicitTls: true }, async (server) => {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    await until("accepted", () => server.sessions === 1);
    clock.advance(31_000);
    await until("closed", () => server.sessions === 0, () => clock.advance(1_000));
    conn.close();
  });
});

Deno.test("broken TLS handshakes end their own connection and nothing else", async () => {
  const failures: string[] = [];
  const log: Log = { ...silentLog, info: (event) => failures.push(event) };
  await withServer(
    { tls: true, implicitTls: true, log, config: { maxConnectionsPerClient: 100 } },
    async (server) => {
      const hello = Uint8Array.fromHex("16030100c8010000c40303" + "00".repeat(60));
      for (const bytes of [encodeText("EHLO c.example\r\n".repeat(100)), hello, new Uint8Array(0)]) {
        for (let i = 0; i < 5; i++) {
          const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
          if (bytes.length > 0) await conn.write(bytes);
          if (i % 2 === 0) await conn.closeWrite();
          conn.close();
        }
      }
      await until("all closed", () => server.sessions === 0 && failures.length === 15);
      const client = await LineClient.connectTls(server.port);
      await client.reply();
      assert.match(await client.command("QUIT"), /^221/);
      client.close();
      await until("closed", () => server.sessions === 0);
    },
  );
});

Deno.test("a client lost in the middle of a message over TLS leaves nothing", async () => {
  await withServer({ implicitTls: true }, async (server) => {
    const client = await LineClient.connectTls(server.port);
    await client.reply();
    await client.command("EHLO c.example");
    await client.command("MAIL FROM:<a@b.example>");
    await client.command("RCPT TO:<user@local.test>");
    await client.command("DATA");
    await client.send("half");
    client.close();
    await until("closed", () => server.sessions === 0);
    assert.equal(server.acceptor.aborted, 1);
  });
});

Deno.test("connections are limited in total and per client, trusted ones in total only", async () => {
  await withServer({ config: { maxConnectionsPerClient: 2 } }, async (server) => {
    const clients = [await greeted(server), await greeted(server)];
    const third = await LineClient.connect(server.port);
    assert.match(`${await third.line()}`, /^421 4\.7\.0 .*from your address/);
    assert.equal(await third.line(), undefined);
    third.close();
    clients[0]!.close();
    await until("one left", () => server.sessions === 1);
    (await greeted(server)).close();
    clients[1]!.close();
  });
  const config = { maxConnections: 2, maxConnectionsPerClient: 1, relayNetworks: ["127.0.0.1/32"] };
  await withServer({ config }, async (server) => {
    const clients = [await greeted(server), await greeted(server)];
    const third = await LineClient.connect(server.port);
    assert.match(`${await third.line()}`, /^421 4\.7\.0 Too many connections, /);
    for (const client of [...clients, third]) client.close();
    await until("closed", () => server.sessions === 0);
  });
});

Deno.test("close lets a transaction end, and turns idle clients away at once", async () => {
  const server = await startTestServer();
  const idle = await greeted(server);
  const busy = await inData(server);
  const closed = server.close();
  assert.equal(await idle.line(), "421 4.3.2 Shutting down, try again later");
  assert.equal(await idle.line(), undefined);
  assert.equal(server.sessions, 1);
  await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: server.port }));
  assert.match(await busy.command("Subject: x\r\n\r\n."), /^250/);
  assert.match(`${await busy.line()}`, /^421 4\.3\.2/);
  await closed;
  assert.equal(server.acceptor.messages.length, 1);
  idle.close();
  busy.close();
});

Deno.test("close stops waiting when its signal aborts", async () => {
  const server = await startTestServer();
  const busy = await inData(server);
  const stop = new AbortController();
  const closed = server.close(stop.signal);
  stop.abort();
  await closed;
  assert.equal(server.acceptor.aborted, 1);
  busy.close();
});

async function scram(client: LineClient, user: string, password: string): Promise<string> {
  const nonce = "fyko+d2lbbFgONRv9qkxdawL";
  const first = encodeClientFirst(user, nonce);
  const challenge = decodeBase64(
    (await client.command(`AUTH SCRAM-SHA-256 ${encodeBase64(first)}`)).slice(4),
  );
  const server = decodeServerFirst(challenge, nonce);
  const final = encodeClientFinalWithoutProof(server.nonce);
  const message = authMessage(first.slice(3), challenge, final);
  const { proof, serverSignature } = await clientProof(password, server.salt, server.iterations, message);
  const answer = await client.command(encodeBase64(`${final},p=${proof.toBase64()}`));
  if (!answer.startsWith("334 ")) return answer;
  assert.equal(decodeBase64(answer.slice(4)), `v=${serverSignature.toBase64()}`);
  return await client.command("");
}

Deno.test("SCRAM-SHA-256: both ends prove themselves; unknown users look like known ones", async () => {
  await withServer({ role: "submission" }, async (server) => {
    const client = await greeted(server);
    assert.match(await scram(client, "user@local.test", "wrong"), /^535 5\.7\.8/);
    assert.match(await scram(client, "nobody", "sécret"), /^535 5\.7\.8/);
    assert.match(await scram(client, "user@local.test", "sécret"), /^235 2\.7\.0/);
    assert.match(server.metrics.text(), /epoxi_auth_failures_total 2/);
    client.close();
  });
});

Deno.test("the salt of an unknown user stays the same", async () => {
  const authenticator = await createAuthenticator([{ user: "a", password: "b" }]);
  const salt = async (user: string) => {
    const turn = await authenticator.start("SCRAM-SHA-256")(encodeBase64(encodeClientFirst(user, "x")));
    assert.ok("challenge" in turn);
    return decodeServerFirst(decodeBase64(turn.challenge), "x").salt.toHex();
  };
  assert.equal(await salt("nobody"), await salt("nobody"));
  assert.notEqual(await salt("nobody"), await salt("somebody"));
});

Deno.test("passwords appear in no log line", async () => {
  const lines: string[] = [];
  const write = (event: string, fields?: object) => void lines.push(JSON.stringify([event, fields]));
  const log: Log = { debug: write, info: write, warn: write, error: write };
  await withServer({ log, role: "submission" }, async (server) => {
    const client = await greeted(server);
    await client.command("AUTH PLAIN " + encodeBase64("\0user@local.test\0hunter2"));
    await client.command("AUTH PLAIN " + encodeBase64("\0user@local.test\0sécret"));
    client.close();
    await until("closed", () => server.sessions === 0);
  });
  assert.ok(lines.some((line) => line.includes("login failed")));
  assert.ok(lines.some((line) => line.includes("client logged in")));
  assert.ok(!lines.some((line) => /hunter2|sécret|aHVudGVy|c8OpY3JldA/.test(line)));
});

for (const implicitTls of [false, true]) {
  Deno.test(`nodemailer sends over ${implicitTls ? "implicit TLS" : "STARTTLS"} with AUTH`, async () => {
    await withServer({ role: "submission", tls: true, implicitTls }, async (server) => {
      const transport = createTransport({
        host: "127.0.0.1",
        port: server.port,
        secure: implicitTls,
        requireTLS: !implicitTls,
        auth: { user: "user@local.test", pass: "sécret" },
        tls: { ca: Deno.readTextFileSync(TEST_CERT), servername: "localhost" },
      });
      const body = Array.from({ length: 200 }, (_, i) => `.${"x".repeat(i)}`).join("\n");
      const info = await transport.sendMail({
        from: "user@local.test",
        to: ["one@elsewhere.example", "two@elsewhere.example"],
        subject: "Grüße",
        text: body,
        dsn: { id: "id", return: "headers", notify: ["failure", "delay"], recipient: "user@local.test" },
      });
      transport.close();
      assert.deepEqual(info.rejected, []);
      const [message] = server.acceptor.messages;
      assert.equal(message?.source.protocol, "ESMTPSA");
      assert.equal(message?.ret, "HDRS");
      assert.equal(message?.recipients.length, 2);
      assert.deepEqual(message?.recipients[0]?.notify, { failure: true, delay: true });
      assert.equal(`<${message?.headerMessageId}>`, info.messageId);
      assert.ok(message?.text.includes(`\r\n.${"x".repeat(30)}\r\n`));
      await until("closed", () => server.sessions === 0);
    });
  });
}

Deno.test("several large messages over one TLS connection, each whole", async () => {
  await withServer(
    { implicitTls: true, role: "relay", config: { maxMessageSize: 5_000_000 } },
    async (server) => {
      const client = await LineClient.connectTls(server.port);
      await client.reply();
      await client.command("EHLO c.example");
      const body = ("y".repeat(70) + "\r\n").repeat(15_000);
      for (let i = 0; i < 5; i++) {
        await client.command("MAIL FROM:<a@b.example>");
        await client.command("RCPT TO:<user@local.test>");
        await client.command("DATA");
        await client.send(`N: ${i}\r\n\r\n${body}`);
        assert.match(await client.command("."), /^250/);
      }
      assert.deepEqual(
        server.acceptor.messages.map(({ text }, i) => text.endsWith(`N: ${i}\r\n\r\n${body}`)),
        [true, true, true, true, true],
      );
      assert.match(await client.command("QUIT"), /^221/);
      assert.equal(await client.line(), undefined);
      client.close();
    },
  );
});

Deno.test("a server that cannot listen says where and why, and leaves no port open", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const options = {
    config: TEST_CONFIG,
    acceptor: new MemoryAcceptor(),
    log: silentLog,
    clock: new ManualClock(),
  };
  const listen = (host: string, port: number, implicitTls = false) => [
    { role: "relay" as const, host: "127.0.0.1", port: 0 },
    { role: "relay" as const, host, port, implicitTls },
  ];
  const { port } = taken.addr;
  await assert.rejects(
    createSmtpServer({ ...options, metrics: new Metrics(), listen: listen("127.0.0.1", port) }),
    new RegExp(`cannot listen for SMTP on 127.0.0.1:${port}: the address is in use`),
  );
  await assert.rejects(
    createSmtpServer({ ...options, metrics: new Metrics(), listen: listen("192.0.2.1", 0) }),
    /cannot listen for SMTP on 192\.0\.2\.1:0: this machine has no such address/,
  );
  await assert.rejects(
    createSmtpServer({ ...options, metrics: new Metrics(), listen: listen("::1", 465, true) }),
    /\[::1\]:465 with TLS: EPOXI_TLS_CERT and EPOXI_TLS_KEY are not set/,
  );
  taken.close();
});

Deno.test("certificates: checked when loaded, loaded again when changed", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [cert, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
    assert.throws(() => CertificateStore.open(cert, key), /cert\.pem: there is no such certificate file/);
    Deno.writeTextFileSync(cert, "junk");
    Deno.copyFileSync(TEST_KEY, key);
    assert.throws(() => CertificateStore.open(cert, key), /cert\.pem: expected a PEM certificate/);
    Deno.copyFileSync(TEST_CERT, cert);
    Deno.writeTextFileSync(key, "junk");
    assert.throws(() => CertificateStore.open(cert, key), /key\.pem: expected a PEM private key/);
    const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign"]);
    const der = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
    Deno.writeTextFileSync(
      key,
      `-----BEGIN PRIVATE KEY-----\n${der.toBase64()}\n-----END PRIVATE KEY-----\n`,
    );
    assert.throws(
      () => CertificateStore.open(cert, key),
      /key\.pem: the key does not belong to the certificate in/,
    );

    Deno.copyFileSync(TEST_KEY, key);
    const store = CertificateStore.open(cert, key);
    assert.ok(store.validTo.getTime() > Date.now());
    const before = store.context;
    assert.equal(store.refresh(), false);
    Deno.writeTextFileSync(cert, "junk, and longer than before");
    assert.throws(() => store.refresh(), /cert\.pem: expected a PEM certificate/);
    assert.equal(store.refresh(), false);
    assert.equal(store.context, before);
    Deno.copyFileSync(TEST_CERT, cert);
    assert.equal(store.refresh(), true);
    assert.notEqual(store.context, before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
