import assert from "node:assert/strict";
import { createTransport } from "nodemailer";
import { CertificateStore, startTlsServer } from "../../src/platform/tls_server.ts";
import { parseRules, RuleError } from "../../src/cli/sink_rules.ts";
import { type SinkEnvelope, type SinkOptions, SinkServer } from "../../src/cli/sink_server.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";
import { until } from "../support/until.ts";

interface Kept extends SinkEnvelope {
  readonly content: string;
}

function start(options: Partial<SinkOptions> = {}): { sink: SinkServer; kept: Kept[]; aborted: string[] } {
  const kept: Kept[] = [];
  const aborted: string[] = [];
  const sink = SinkServer.start({
    listen: { host: "127.0.0.1", port: 0 },
    receive({ from, to }) {
      let content = "";
      return {
        write: (chunk) => void (content += new TextDecoder("latin1").decode(chunk)),
        end: () => void kept.push({ from, to: [...to], content }),
        abort: () => void aborted.push(from),
      };
    },
    ...options,
  });
  return { sink, kept, aborted };
}

/** Says all of `text` at once and hears what comes until the sink closes or has answered `lines` lines. */
async function dialog(port: number, text: string, lines = Infinity): Promise<string[]> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode(text));
  let heard = "";
  const buffer = new Uint8Array(4096);
  while (heard.split("\r\n").length <= lines) {
    const n = await conn.read(buffer);
    if (n === null) break;
    heard += new TextDecoder().decode(buffer.subarray(0, n));
  }
  return heard.split("\r\n").slice(0, -1);
}

const codes = (lines: string[]) =>
  lines.filter((line) => line[3] !== "-").map((line) => line.slice(0, 3)).join(" ");

Deno.test("a sink keeps what it is sent, dots and all, and counts it", async () => {
  const { sink, kept } = start();
  await using _sink = sink;
  const heard = await dialog(
    sink.address.port,
    'EHLO a.test\r\nMAIL FROM:<a@a.test> SIZE=9\r\nRCPT TO:<b@b.test>\r\nRCPT TO:<"x>y"@b.test>\r\nDATA\r\n' +
      "Subject: x\r\n\r\n..dot\r\nlast\r\n.\r\nQUIT\r\n",
  );
  assert.equal(codes(heard), "220 250 250 250 250 354 250 221");
  assert.deepEqual(kept, [
    { from: "a@a.test", to: ["b@b.test", '"x>y"@b.test'], content: "Subject: x\r\n\r\n.dot\r\nlast\r\n" },
  ]);
  assert.equal(sink.counts.messages, 1);
  assert.equal(sink.counts.recipients, 2);
  assert.equal(sink.counts.bytes, kept[0]!.content.length);
});

Deno.test("a sink takes BDAT in chunks", async () => {
  const { sink, kept } = start();
  await using _sink = sink;
  const heard = await dialog(
    sink.address.port,
    "EHLO a\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@b.test>\r\nBDAT 6\r\n.\r\nab\nBDAT 0\r\nBDAT 2 LAST\r\ncdQUIT\r\n",
  );
  assert.equal(codes(heard), "220 250 250 250 250 250 250 221");
  assert.deepEqual(kept, [{ from: "", to: ["b@b.test"], content: ".\r\nab\ncd" }]);
});

Deno.test("a sink refuses what is out of order or no command", async () => {
  const { sink, kept } = start();
  await using _sink = sink;
  const heard = await dialog(
    sink.address.port,
    "RCPT TO:<b@b.test>\r\nDATA\r\nMAIL FROM:a@a.test\r\nMAIL FROM:<a@a.test>\r\nMAIL FROM:<a@a.test>\r\n" +
      "RCPT TO:<>\r\nBDAT 3 LAST\r\nabcNOOP\nWHAT\r\nRSET\r\nSTARTTLS\r\nBDAT x\r\n",
  );
  assert.equal(codes(heard), "220 503 503 501 250 503 501 503 500 500 250 502 501");
  assert.deepEqual(kept, []);
});

Deno.test("a message that is cut off is not counted", async () => {
  const { sink, kept, aborted } = start();
  await using _sink = sink;
  await dialog(
    sink.address.port,
    "EHLO a\r\nMAIL FROM:<cut@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nhalf",
    13,
  );
  await until("end of the connection", () => aborted.length === 1);
  assert.deepEqual(aborted, ["cut@a.test"]);
  assert.deepEqual(kept, []);
  assert.equal(sink.counts.messages, 0);
});

Deno.test("rules change replies by stage, with their share", async () => {
  const draws = [0.05, 0.5, 0.95];
  const { sink, kept } = start({
    rules: parseRules({ reply: ["rcpt=450:0.1", "rcpt=550:0.5"] }),
    random: () => draws.shift()!,
  });
  await using _sink = sink;
  const heard = await dialog(
    sink.address.port,
    "EHLO a\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<1@b>\r\nRCPT TO:<2@b>\r\nRCPT TO:<3@b>\r\nDATA\r\n.\r\nQUIT\r\n",
  );
  assert.equal(codes(heard), "220 250 250 450 550 250 354 250 221");
  assert.deepEqual(kept.map(({ to }) => to), [["3@b"]]);
  assert.equal(sink.counts.refused, 2);
});

Deno.test("refused content is not kept, and the next message is", async () => {
  const draws = [0.1, 0.9];
  const { sink, kept, aborted } = start({
    rules: parseRules({ reply: ["dot=451:0.5"] }),
    random: () => draws.shift()!,
  });
  await using _sink = sink;
  const message = (n: number) => `MAIL FROM:<${n}@a>\r\nRCPT TO:<b@b>\r\nDATA\r\nx\r\n.\r\n`;
  const heard = await dialog(sink.address.port, `EHLO a\r\n${message(1)}${message(2)}QUIT\r\n`);
  assert.equal(codes(heard), "220 250 250 250 354 451 250 250 354 250 221");
  assert.deepEqual(kept.map(({ from }) => from), ["2@a"]);
  assert.deepEqual(aborted, ["1@a"]);
});

Deno.test("421 and drop close the connection; a refused greeting refuses all", async () => {
  for (
    const [texts, expected] of [
      [{ reply: ["mail=421"] }, "220 250 421"],
      [{ drop: ["mail"] }, "220 250"],
      [{ reply: ["greeting=554"] }, "554 503 503 221"],
      [{ reply: ["greeting=421"] }, "421"],
    ] as const
  ) {
    const { sink } = start({ rules: parseRules(texts) });
    await using _sink = sink;
    assert.equal(codes(await dialog(sink.address.port, "EHLO a\r\nMAIL FROM:<a@a>\r\nQUIT\r\n")), expected);
  }
});

Deno.test("closing a sink ends a tarpit at once", async () => {
  const { sink } = start({ rules: parseRules({ delay: ["greeting=1h"] }) });
  const heard = dialog(sink.address.port, "");
  await until("connection", () => sink.counts.open === 1);
  await sink.close();
  assert.deepEqual(await heard, []);
});

Deno.test("a sink takes mail over STARTTLS from a client of another make", async () => {
  const file = (name: string) => new URL(`../support/tls/test_only_${name}.pem`, import.meta.url).pathname;
  const { context } = CertificateStore.open(file("cert"), file("key"));
  const { sink, kept } = start({ startTls: (conn) => startTlsServer(conn, context) });
  await using _sink = sink;
  const { host, port } = sink.address;
  const transport = createTransport({ host, port, requireTLS: true, tls: { rejectUnauthorized: false } });
  await transport.sendMail({ from: "a@a.test", to: "b@b.test", subject: "over TLS", text: "hello" });
  transport.close();
  assert.match(kept[0]!.content, /^Subject: over TLS\r$/m);
});

Deno.test("many connections at once lose nothing", async () => {
  const { sink, kept } = start();
  await using _sink = sink;
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    const connection = await LoadConnection.open(sink.address.port);
    for (let n = 0; n < 20; n++) {
      await connection.send("a@a", [`${i}-${n}@b`], loadMessage(`${i}-${n}`, 20_000));
    }
    connection.close();
  }));
  assert.equal(new Set(kept.map(({ to }) => to[0])).size, 400);
  for (const { to: [to], content } of kept) {
    assert.equal(content, loadMessage(to!.split("@")[0]!, 20_000) + "\r\n");
  }
});

Deno.test("a rule that can't be read says what was expected", () => {
  for (
    const [texts, said] of [
      [{ reply: ["rcpt"] }, /--reply rcpt: expected stage=code/],
      [{ reply: ["rset=450"] }, /--reply rset=450: expected one of the stages greeting, ehlo/],
      [{ reply: ["rcpt=150"] }, /expected a code from 200 to 599/],
      [{ reply: ["rcpt=450:1.5"] }, /expected a probability from 0 to 1/],
      [{ reply: ["rcpt=450:0.6", "rcpt=550:0.6"] }, /add up to 1 at most for rcpt/],
      [{ delay: ["dot=fast"] }, /--delay dot=fast: expected stage=duration/],
      [{ delay: ["500ms"] }, /--delay 500ms: expected stage=duration/],
      [{ drop: ["dot:x"] }, /--drop dot:x: expected a probability/],
    ] as const
  ) {
    assert.throws(() => parseRules(texts), (error) => error instanceof RuleError && said.test(error.message));
  }
});
