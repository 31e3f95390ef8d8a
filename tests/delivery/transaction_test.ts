import assert from "node:assert/strict";
import { outcomeOf } from "../../src/delivery/classify.ts";
import {
  connectSmtp,
  DEFAULT_TIMEOUTS,
  SmtpClientError,
  type SmtpConnection,
  type SmtpConnectOptions,
} from "../../src/delivery/client.ts";
import type { OutgoingMail } from "../../src/delivery/mail.ts";
import { sendMail } from "../../src/delivery/transaction.ts";
import { DataScanner } from "../../src/smtp/data_scanner.ts";
import { concat, type Script, ScriptedReceiver } from "../support/scripted_receiver.ts";
import { until } from "../support/until.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array) => new TextDecoder().decode(content);
const CONTENT = "Subject: hello\r\n\r\nbody\r\n";
const ehlo = (...keywords: string[]) =>
  ["mx.test", ...keywords].map((each, i) => `250${i < keywords.length ? "-" : " "}${each}`).join("\r\n");
const SLOW = ehlo("8BITMIME");

function mail(recipients: readonly string[], more: Partial<OutgoingMail> = {}): OutgoingMail {
  const content = bytes(CONTENT);
  return {
    reversePath: "from@us.test",
    recipients: recipients.map((address) => ({ address })),
    size: content.length,
    body: "7BIT",
    smtpUtf8: false,
    requireTls: false,
    bytes: content,
    content: () => ReadableStream.from([content]),
    ...more,
  };
}

function connect(
  receiver: ScriptedReceiver,
  more: Partial<SmtpConnectOptions> = {},
): Promise<SmtpConnection> {
  return connectSmtp({
    host: "mx.test",
    address: receiver.address,
    port: receiver.port,
    hostname: "us.test",
    tls: "never",
    ...more,
  });
}

/** Sends one mail to a receiver of `script`; what came of each recipient as `kind scope reason: reply`. */
async function outcomes(
  script: Script,
  outgoing: OutgoingMail,
  more: Partial<SmtpConnectOptions> = {},
): Promise<{ shown: string[]; receiver: ScriptedReceiver; usable: boolean }> {
  await using receiver = ScriptedReceiver.start(script);
  const connection = await connect(receiver, more);
  const results = await sendMail(connection, outgoing);
  const { usable } = connection;
  await connection.quit();
  const shown = results.map((result) => {
    const { kind, scope, reason, reply, status } = outcomeOf(result, "mx.test");
    return `${kind} ${scope} ${status}${reason ? ` ${reason}` : ""}: ${reply}`;
  });
  return { shown, receiver, usable };
}

for (const pipelining of [true, false]) {
  const how = pipelining ? "pipelined" : "step by step";
  const base: Script = pipelining ? {} : { EHLO: SLOW };

  Deno.test(`${how}: one answer for each recipient`, async () => {
    const { shown, receiver, usable } = await outcomes({
      ...base,
      RCPT: (line) =>
        line.includes("no@") ? "550 5.1.1 unknown" : line.includes("busy@") ? "450 4.2.1 busy" : "250 ok",
    }, mail(["a@d.test", "no@d.test", "busy@d.test", "b@d.test"]));
    assert.deepEqual(shown, [
      "delivered recipient 2.0.0: 250 2.0.0 queued",
      "failed recipient 5.1.1: 550 5.1.1 unknown",
      "deferred recipient 4.2.1 remote 4xx: 450 4.2.1 busy",
      "delivered recipient 2.0.0: 250 2.0.0 queued",
    ]);
    assert.equal(usable, true);
    assert.equal(text(receiver.contents[0]!), CONTENT + ".\r\n");
    assert.deepEqual(receiver.commands.slice(1, 7), [
      "MAIL FROM:<from@us.test>",
      ...["a", "no", "busy", "b"].map((user) => `RCPT TO:<${user}@d.test>`),
      "DATA",
    ]);
  });

  Deno.test(`${how}: a refusal at each stage, and what it stops`, async () => {
    const cases: [Script, string][] = [
      [{ MAIL: "550 5.7.1 not you" }, "failed message 5.7.1: 550 5.7.1 not you"],
      [{ MAIL: "451 later" }, "deferred message 4.0.0 remote 4xx: 451 later"],
      [{ RCPT: "551 gone" }, "failed recipient 5.0.0: 551 gone"],
      [{ DATA: "451 4.3.0 later" }, "deferred message 4.3.0 remote 4xx: 451 4.3.0 later"],
      [{ DATA: "554 5.6.0 no" }, "failed message 5.6.0: 554 5.6.0 no"],
      [{ dot: "452 4.3.1 full" }, "deferred message 4.3.1 remote 4xx: 452 4.3.1 full"],
      [{ dot: "554 5.7.1 spam" }, "failed message 5.7.1: 554 5.7.1 spam"],
    ];
    for (const [script, expected] of cases) {
      const { shown, usable } = await outcomes(
        { ...base, ...(script.MAIL ? { RCPT: "503 no", DATA: "503 no" } : {}), ...script },
        mail(["a@d.test", "b@d.test"]),
      );
      assert.deepEqual(shown, [expected, expected], JSON.stringify(script));
      assert.equal(usable, true, JSON.stringify(script));
    }
  });

  Deno.test(`${how}: 421 at any point is about the host, and ends the connection`, async () => {
    for (const point of ["MAIL", "RCPT", "DATA", "dot"]) {
      const { shown, usable } = await outcomes(
        { ...base, [point]: "421 4.3.2 going down|close" },
        mail(["a@d.test", "b@d.test"]),
      );
      const expected = "deferred destination 4.3.2 remote 4xx: 421 4.3.2 going down";
      assert.deepEqual(shown, [expected, expected], point);
      assert.equal(usable, false, point);
    }
  });

  Deno.test(`${how}: a connection lost before the final dot is deferred, after it in doubt`, async () => {
    for (const point of ["MAIL", "RCPT", "DATA", "body"]) {
      const { shown, usable } = await outcomes(
        { ...base, [point]: "close" },
        mail(["a@d.test"], bigContent()),
      );
      assert.match(shown[0]!, /^deferred message 4\.4\.2 network: /, point);
      assert.equal(usable, false);
    }
    const { shown } = await outcomes({ ...base, dot: "close" }, mail(["a@d.test"]));
    assert.match(shown[0]!, /^deferred message 4\.4\.2 in doubt: .* it may have arrived/);
  });

  Deno.test(`${how}: silence at each stage ends in its time-out`, async () => {
    const points = ["MAIL", "RCPT", "DATA", "dot"];
    for (const point of points) {
      const silent = Object.fromEntries(points.slice(points.indexOf(point)).map((each) => [each, ""]));
      const timeouts = { ...DEFAULT_TIMEOUTS, mail: 100, rcpt: 100, data: 100, dot: 100 };
      const { shown, usable } = await outcomes({ ...base, ...silent }, mail(["a@d.test"]), { timeouts });
      assert.match(
        shown[0]!,
        point === "dot"
          ? /^deferred message 4\.4\.2 in doubt: /
          : /^deferred message 4\.4\.2 network: .*timed out/,
      );
      assert.equal(usable, false);
    }
  });

  Deno.test(`${how}: what is no reply ends the connection and defers`, async () => {
    for (
      const junk of ["\0\x01\x02 hello", "25 ok", "250-a\r\n251 b", "250 " + "x".repeat(70_000), "100 wait"]
    ) {
      const { shown, usable } = await outcomes({ ...base, MAIL: junk }, mail(["a@d.test"]));
      assert.match(shown[0]!, /^deferred message 4\.4\.2 network: /, junk.slice(0, 20));
      assert.equal(usable, false);
    }
    const { shown } = await outcomes(
      { ...base, MAIL: Array(3000).fill("250-" + "x".repeat(60)).join("\r\n") },
      mail(["a@d.test"]),
    );
    assert.match(shown[0]!, /^deferred .*reply is longer/);
  });

  Deno.test(`${how}: after a failed transaction the next one goes through`, async () => {
    await using receiver = ScriptedReceiver.start({
      ...base,
      RCPT: ["550 5.1.1 no", "250 ok"],
      MAIL: (line) => line.includes("bad@") ? "550 no" : "250 ok",
    });
    const connection = await connect(receiver);
    const accepted = async (outgoing: OutgoingMail) => (await sendMail(connection, outgoing))[0]!.accepted;
    assert.equal(await accepted(mail(["a@d.test"])), false);
    assert.equal(await accepted(mail(["b@d.test"], { reversePath: "bad@us.test" })), false);
    assert.equal(await accepted(mail(["c@d.test"])), true);
    assert.equal(connection.usable, true);
    await connection.quit();
    assert.equal(receiver.connections.length, 1);
    assert.equal(receiver.commands.at(-1), "QUIT");
    const last = receiver.contents.at(-1)!;
    assert.equal(text(last), CONTENT + ".\r\n");
  });
}

function bigContent(): Partial<OutgoingMail> {
  const line = bytes("x".repeat(76) + "\r\n");
  const content = concat(Array.from({ length: 120_000 }, () => line));
  return {
    size: content.length,
    bytes: undefined,
    content: () => ReadableStream.from(slices(content, 60_000)),
  };
}

function* slices(content: Uint8Array, size: number): Iterable<Uint8Array> {
  for (let i = 0; i < content.length; i += size) yield content.subarray(i, i + size);
}

Deno.test("pipelined: MAIL, every RCPT and DATA leave together", async () => {
  await using receiver = ScriptedReceiver.start({ MAIL: "", EHLO: ehlo("PIPELINING") });
  const connection = await connect(receiver);
  const sending = sendMail(connection, mail(["a@d.test", "b@d.test"]));
  await until("all commands are there", () => receiver.commands.length === 5);
  assert.equal(receiver.commands.at(-1), "DATA");
  connection.destroy();
  await sending;
});

Deno.test("step by step: nothing is sent before its turn", async () => {
  const { receiver } = await outcomes({ EHLO: SLOW, MAIL: "550 no" }, mail(["a@d.test"]));
  assert.deepEqual(receiver.commands.slice(1, 3), ["MAIL FROM:<from@us.test>", "RSET"]);
});

Deno.test("replies out of step end the connection before they decide anything", async () => {
  const { shown, usable } = await outcomes({ MAIL: "", RCPT: "250 ok" }, mail(["a@d.test"]));
  assert.match(shown[0]!, /^deferred message 4\.4\.2 network: reply out of step: 354 go on/);
  assert.equal(usable, false);
});

Deno.test("354 though no recipient was taken: an empty message for nobody, and the session goes on", async () => {
  const { shown, receiver, usable } = await outcomes(
    { RCPT: "550 5.1.1 no", DATA: "354 go on" },
    mail(["a@d.test", "b@d.test"]),
  );
  assert.deepEqual(shown, Array(2).fill("failed recipient 5.1.1: 550 5.1.1 no"));
  assert.equal(text(receiver.contents[0]!), ".\r\n");
  assert.equal(usable, true);
});

Deno.test("a refusal in the middle of the content counts, and ends the connection", async () => {
  for (const step of ["552 5.3.4 too big", "552 5.3.4 too big|close"]) {
    const { shown, usable } = await outcomes({ body: step }, mail(["a@d.test"], bigContent()));
    assert.deepEqual(shown, ["failed message 5.3.4: 552 5.3.4 too big"], step);
    assert.equal(usable, false);
  }
});

Deno.test("a reply too many never answers the next message", async () => {
  await using receiver = ScriptedReceiver.start({ dot: "250 ok\r\n250 again" });
  const connection = await connect(receiver);
  assert.equal((await sendMail(connection, mail(["a@d.test"])))[0]!.accepted, true);
  await until("the second reply is noticed", () => !connection.usable);
  await connection.quit();
});

Deno.test("an idle connection that is told to go, or closed, is not used again", async () => {
  for (const end of ["say", "hangUp"] as const) {
    await using receiver = ScriptedReceiver.start();
    const connection = await connect(receiver);
    assert.equal(connection.usable, true);
    if (end === "say") await receiver.say("421 4.4.2 idle\r\n");
    else receiver.hangUp();
    await until("it is noticed", () => !connection.usable);
    await connection.quit();
  }
});

Deno.test("replies in several lines and in small pieces", async () => {
  const { shown } = await outcomes({
    EHLO: "250-mx.test\n250 PIPELINING",
    MAIL: "250-2.1.0 first\r\n250-2.1.0 second\r\n250 2.1.0 third",
    dot: "250-2.0.0 Ok\r\n250 2.0.0 queued as 1",
  }, mail(["a@d.test"]));
  assert.deepEqual(shown, ["delivered recipient 2.0.0: 250 2.0.0 Ok queued as 1"]);
});

Deno.test("EHLO unknown: HELO, and none of the extensions", async () => {
  const { receiver } = await outcomes({ EHLO: "502 what?" }, mail(["a@d.test"]));
  assert.deepEqual(receiver.commands.slice(0, 3), [
    "EHLO us.test",
    "HELO us.test",
    "MAIL FROM:<from@us.test>",
  ]);
});

Deno.test("connecting fails at its stage, with the reply where there is one", async () => {
  const cases: [Script, string, string][] = [
    [{ connect: "554 5.7.1 no" }, "greeting", "554 5.7.1 no"],
    [{ connect: "421 busy|close" }, "greeting", "421 busy"],
    [{ connect: "close" }, "greeting", "connection closed by the remote host"],
    [{ connect: "" }, "greeting", "timed out waiting for a reply"],
    [{ connect: "HTTP/1.1 400 Bad Request" }, "greeting", 'expected a reply, got "HTTP/1.1 400 Bad Request"'],
    [{ EHLO: "421 later|close" }, "ehlo", "421 later"],
    [{ EHLO: "502 no", HELO: "550 no" }, "ehlo", "550 no"],
    [{ EHLO: "close" }, "ehlo", "connection closed by the remote host"],
  ];
  for (const [script, stage, message] of cases) {
    await using receiver = ScriptedReceiver.start(script);
    const timeouts = { ...DEFAULT_TIMEOUTS, greeting: 200, ehlo: 2000 };
    const error = await connect(receiver, { timeouts }).then(() => undefined, (error) => error);
    assert(error instanceof SmtpClientError, stage);
    assert.deepEqual([error.stage, error.message], [stage, message]);
  }
});

Deno.test("a closed port is refused, a stopped connection attempt leaves nothing behind", async () => {
  const receiver = ScriptedReceiver.start({ connect: "" });
  const stop = new AbortController();
  const waiting = connect(receiver, { signal: stop.signal });
  await until("it is connected", () => receiver.connections.length === 1);
  stop.abort();
  await assert.rejects(waiting, SmtpClientError);
  await until("the receiver sees it go", () => receiver.openConnections === 0);
  await receiver[Symbol.asyncDispose]();
  await assert.rejects(connect(receiver), { stage: "connect", fault: "refused" });
});

Deno.test("what the message needs and the host lacks fails it before anything is sent", async () => {
  const cases: [Partial<OutgoingMail>, string[], string][] = [
    [{ smtpUtf8: true }, ["8BITMIME"], "5.6.7"],
    [{ body: "8BITMIME" }, ["PIPELINING"], "5.6.3"],
    [{ body: "BINARYMIME" }, ["BINARYMIME"], "5.6.3"],
    [{ body: "BINARYMIME" }, ["CHUNKING"], "5.6.3"],
    [{ requireTls: true }, ["REQUIRETLS"], "5.7.30"],
    [{ size: 1001 }, ["SIZE 1000"], "5.3.4"],
  ];
  for (const [needs, offered, status] of cases) {
    const { shown, receiver, usable } = await outcomes({ EHLO: ehlo(...offered) }, mail(["a@d.test"], needs));
    assert(shown[0]!.startsWith(`failed message ${status}: `), shown[0]);
    assert.equal(receiver.commands.filter((line) => line.startsWith("MAIL")).length, 0);
    assert.equal(usable, true);
  }
});

Deno.test("parameters go where they are offered, and only there", async () => {
  const outgoing = mail([], {
    recipients: [
      {
        address: "a@d.test",
        parameters: { notify: { success: true, failure: true }, orcpt: "rfc822;a+b@x.test" },
      },
      { address: "b@d.test", parameters: { notify: { never: true } } },
    ],
    ret: "HDRS",
    envid: "id=1",
    body: "8BITMIME",
    smtpUtf8: true,
    size: 23,
  });
  const all = ehlo("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN");
  const { receiver, shown } = await outcomes({ EHLO: all }, outgoing);
  const [, from, one, two] = receiver.commands;
  assert.deepEqual(
    new Set(from!.split(" ")),
    new Set(
      ["MAIL", "FROM:<from@us.test>", "SIZE=23", "BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=id+3D1"],
    ),
  );
  assert.deepEqual(
    new Set(one!.split(" ")),
    new Set(
      ["RCPT", "TO:<a@d.test>", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;a+2Bb@x.test"],
    ),
  );
  assert.equal(two, "RCPT TO:<b@d.test> NOTIFY=NEVER");
  assert.equal(shown.length, 2);

  await using plain = ScriptedReceiver.start({ EHLO: ehlo("PIPELINING", "8BITMIME", "SMTPUTF8") });
  const connection = await connect(plain);
  const results = await sendMail(connection, outgoing);
  assert.equal(results[0]!.dsnPassedOn, undefined);
  await connection.quit();
  assert.equal(plain.commands[1], "MAIL FROM:<from@us.test> BODY=8BITMIME SMTPUTF8");
  assert.equal(plain.commands[2], "RCPT TO:<a@d.test>");
});

Deno.test("the duty to report success goes over to a host that offers DSN", async () => {
  await using receiver = ScriptedReceiver.start({ EHLO: ehlo("DSN") });
  const connection = await connect(receiver);
  assert.equal((await sendMail(connection, mail(["a@d.test"])))[0]!.dsnPassedOn, true);
  await connection.quit();
});

Deno.test("the null reverse-path and quoted local parts", async () => {
  const { receiver } = await outcomes({}, mail(['"a b"@d.test'], { reversePath: "" }));
  assert.deepEqual(receiver.commands.slice(1, 3), ["MAIL FROM:<>", 'RCPT TO:<"a b"@d.test>']);
});

Deno.test("LIMITS RCPTMAX: as many transactions as it takes", async () => {
  const all = ["a", "b", "c", "d", "e"].map((user) => `${user}@d.test`);
  const { receiver, shown } = await outcomes({ EHLO: ehlo("PIPELINING", "LIMITS RCPTMAX=2") }, mail(all));
  assert.deepEqual(
    receiver.commands.filter((line) => /^(RCPT|DATA)/.test(line)).map((line) => line.slice(0, 12)),
    [
      "RCPT TO:<a@d",
      "RCPT TO:<b@d",
      "DATA",
      "RCPT TO:<c@d",
      "RCPT TO:<d@d",
      "DATA",
      "RCPT TO:<e@d",
      "DATA",
    ],
  );
  assert.deepEqual(shown, Array(5).fill("delivered recipient 2.0.0: 250 2.0.0 queued"));
});

Deno.test("too many recipients: who did not fit is sent in the next transaction", async () => {
  for (const reply of ["452 4.5.3 too many", "452 Too many recipients", "552 5.5.3 too many"]) {
    let count = 0;
    const { receiver, shown } = await outcomes({
      MAIL: () => {
        count = 0;
        return "250 ok";
      },
      RCPT: () => ++count > 2 ? reply : "250 ok",
    }, mail(["a", "b", "c", "d", "e"].map((user) => `${user}@d.test`)));
    assert.deepEqual(shown, Array(5).fill("delivered recipient 2.0.0: 250 2.0.0 queued"), reply);
    assert.equal(receiver.contents.length, 3);
  }
  // A host that takes nobody, and a full mailbox, are no reason to go on and on.
  const none = await outcomes({ RCPT: "552 5.5.3 too many", DATA: "503 no" }, mail(["a@d.test", "b@d.test"]));
  assert.deepEqual(none.shown, Array(2).fill("deferred recipient 4.5.3 remote 4xx: 552 5.5.3 too many"));
  const full = await outcomes({ RCPT: ["250 ok", "452 4.2.2 mailbox full"] }, mail(["a@d.test", "b@d.test"]));
  assert.equal(full.shown[1], "deferred recipient 4.2.2 remote 4xx: 452 4.2.2 mailbox full");
});

Deno.test("BINARYMIME goes out in chunks, byte for byte", async () => {
  const content = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7 & 255);
  const { receiver, shown } = await outcomes(
    { EHLO: ehlo("PIPELINING", "8BITMIME", "BINARYMIME", "CHUNKING") },
    mail(["a@d.test"], {
      body: "BINARYMIME",
      size: content.length,
      bytes: undefined,
      content: () => ReadableStream.from(slices(content, 64_000)),
    }),
  );
  assert.equal(receiver.commands[1], "MAIL FROM:<from@us.test> BODY=BINARYMIME");
  assert.deepEqual(concat(receiver.contents), content);
  assert.deepEqual(shown, ["delivered recipient 2.0.0: 250 2.0.0 queued"]);
});

Deno.test("a chunk refused ends the transaction, not the session", async () => {
  const { shown, usable } = await outcomes(
    { EHLO: ehlo("8BITMIME", "BINARYMIME", "CHUNKING"), BDAT: "552 5.3.4 too big" },
    mail(["a@d.test"], { ...bigContent(), body: "BINARYMIME" }),
  );
  assert.deepEqual(shown, ["failed message 5.3.4: 552 5.3.4 too big"]);
  assert.equal(usable, true);
});

Deno.test("content that breaks off is never ended as if it were whole", async () => {
  async function* broken() {
    yield bytes("Subject: half\r\n");
    await Promise.resolve();
    throw new Error("the store is gone");
  }
  const { shown, receiver, usable } = await outcomes(
    {},
    mail(["a@d.test"], { bytes: undefined, content: broken }),
  );
  assert.match(shown[0]!, /^deferred message 4\.3\.0 local fault: .*the store is gone/);
  assert.equal(receiver.contents.length, 0);
  assert.equal(usable, false);
});

const SMUGGLING = [
  "\n.\n",
  "\n.\r",
  "\r.\n",
  "\r.\r",
  "\n.\r\n",
  "\r.\r\n",
  "\r\n.\n",
  "\r\n.\r",
  "\r\n\0.\r\n",
]
  .concat("\r\n.\r\r\n", "\r\r\n.\r\r\n", "\r\n.\r\n", "\r\n..\r\n");

Deno.test("nothing in a body can end the data, however it is cut", async () => {
  await using receiver = ScriptedReceiver.start();
  const connection = await connect(receiver);
  for (const sequence of SMUGGLING) {
    const body = `Subject: x\r\n\r\nfirst${sequence}MAIL FROM:<evil@x.test>\r\n`;
    for (let cut = 0; cut <= body.length; cut += 1) {
      // At the places that matter, and some others.
      if (Math.abs(cut - 19) > 8 && cut % 10 !== 0) continue;
      const parts = [bytes(body.slice(0, cut)), bytes(body.slice(cut))];
      const [result] = await sendMail(
        connection,
        mail(["a@d.test"], { bytes: undefined, content: () => ReadableStream.from(parts) }),
      );
      assert.equal(result!.accepted, true);
      const raw = text(receiver.contents.at(-1)!);
      assert.doesNotMatch(raw, /[^\r]\n|\r[^\n]/, JSON.stringify(sequence));
      assert.equal(raw.indexOf("\r\n.\r\n"), raw.length - 5, JSON.stringify(sequence));
      assert.equal(unstuff(raw), body.replace(/\r\n|\r|\n/g, "\r\n"), JSON.stringify(sequence));
    }
  }
  await connection.quit();
  assert.equal(receiver.commands.filter((line) => line.includes("evil")).length, 0);
});

function unstuff(raw: string): string {
  return raw.slice(0, -3).replace(/^\.\./gm, ".");
}

Deno.test("25 MiB arrive byte for byte, from memory and as a stream", async () => {
  const line = bytes("." + "The quick brown fox jumps over the lazy dog, again and again".repeat(1) + "\r\n");
  const content = concat(Array.from({ length: Math.ceil(25 * 1024 * 1024 / line.length) }, () => line));
  for (const inMemory of [true, false]) {
    await using receiver = ScriptedReceiver.start();
    const connection = await connect(receiver);
    const [result] = await sendMail(
      connection,
      mail(["a@d.test"], {
        size: content.length,
        bytes: inMemory ? content : undefined,
        content: () => ReadableStream.from(slices(content, 60_000)),
      }),
    );
    assert.equal(result!.accepted, true);
    await connection.quit();
    const scanned = new DataScanner().push(receiver.contents[0]!);
    const received = concat(scanned.content);
    assert.equal(received.length, content.length);
    assert.equal(await digest(received), await digest(content));
  }
});

async function digest(content: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex();
}
