/** Connections over bytes in memory: what the network does to their borders must not matter. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { ByteConn } from "../../src/platform/tls_server.ts";
import { createAuthenticator } from "../../src/server/auth.ts";
import { Connection } from "../../src/server/connection.ts";
import { createRecipientRule } from "../../src/server/rules.ts";
import { BufferPool } from "../../src/server/wire.ts";
import { silentLog } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { MemoryAcceptor } from "../support/memory_acceptor.ts";
import { TEST_CONFIG } from "../support/smtp_server.ts";

const authenticator = createAuthenticator(TEST_CONFIG.smtpUsers);

/** Gives out chunks as they are, as far as the buffer goes, and then the end. */
function spoken(chunks: readonly Uint8Array[]): { conn: ByteConn; sent: () => string } {
  const rest = chunks.filter((chunk) => chunk.length > 0);
  let output = "";
  return {
    conn: {
      read(buffer) {
        const chunk = rest.shift();
        if (!chunk) return Promise.resolve(null);
        const size = Math.min(chunk.length, buffer.length);
        buffer.set(chunk.subarray(0, size));
        if (size < chunk.length) rest.unshift(chunk.subarray(size));
        return Promise.resolve(size);
      },
      write(bytes) {
        // Short writes happen.
        const size = Math.ceil(bytes.length / 2);
        output += new TextDecoder().decode(bytes.subarray(0, size));
        return Promise.resolve(size);
      },
      close() {},
    },
    sent: () => output,
  };
}

async function talk(chunks: readonly Uint8Array[], trusted = true) {
  const { conn, sent } = spoken(chunks);
  const metrics = new Metrics();
  const acceptor = new MemoryAcceptor();
  const errors: string[] = [];
  const users = await authenticator;
  const connection = new Connection(
    {
      hostname: "mx.test",
      rules: {
        ...TEST_CONFIG,
        startTls: false,
        mechanisms: users.mechanisms,
        available: () => true,
        recipient: createRecipientRule(TEST_CONFIG),
      },
      acceptor,
      authenticator: users,
      secureContext: () => undefined,
      log: { ...silentLog, error: (event) => void errors.push(event) },
      metrics: {
        commands: metrics.counter("a", ""),
        rejected: metrics.counter("b", ""),
        authFailures: metrics.counter("c", ""),
      },
      clock: new ManualClock(),
      timeout: 1_000,
      pool: new BufferPool(),
    },
    conn,
    "relay",
    { address: "192.0.2.1", loopback: false, trusted },
    false,
  );
  await connection.run();
  assert.deepEqual(errors, []);
  return {
    sent: sent(),
    acceptor,
    messages: acceptor.messages.map(({ text, recipients }) => ({ text, recipients })),
  };
}

const encode = (text: string) => new TextEncoder().encode(text);

Deno.test("a client that speaks before the greeting is sent away, a trusted one let in", async () => {
  const bytes = encode("EHLO c.example\r\nQUIT\r\n");
  const stranger = await talk([bytes], false);
  assert.equal(stranger.sent, "554 5.5.1 Wait for the greeting before you speak\r\n");
  const friend = await talk([bytes]);
  assert.match(friend.sent, /^220 .*221 2\.0\.0 [^\r]*\r\n$/s);
  // AUTH is not offered in the clear to the world.
  assert.doesNotMatch(friend.sent, /AUTH/);
  assert.match((await talk([encode("EHLO c\r\nAUTH PLAIN AGEAYg==\r\nQUIT\r\n")])).sent, /\r\n538 5\.7\.11 /);
});

const SCRIPT = [
  "EHLO c.example\r\nNOOP\nFOO\r\nMAIL FROM:<a@b.example> BODY=BINARYMIME\r\nRCPT TO:<user@local.test>\r\n",
  "BDAT 14\r\nSubject: x\r\n\r\nBDAT 9 LAST\r\n\n.\r\nQUIT\rNOOP\r\n",
  "MAIL FROM:<>\r\nRCPT TO:<nobody@local.test>\r\nBDAT 6\r\nQUIT\r\nRSET\r\n",
  "MAIL FROM:<a@b.example>\r\nRCPT TO:<other@local.test>\r\nDATA\r\nSubject: y\r\n\r\n..\r\n...a\r\n.\r\n",
  "MAIL FROM:<a@b.example>\r\nRCPT TO:<other@local.test>\r\nDATA\r\nno header\r\n.\n.\r\n.\r\nHELP\r\nQUIT\r\nNOOP\r\n",
].join("");

Deno.test("what one session says does not depend on where the network splits it", async () => {
  const bytes = encode(SCRIPT);
  const whole = await talk([bytes]);
  assert.equal(whole.messages.length, 2);
  assert.ok(
    whole.messages[0]!.text.endsWith("Subject: x\r\n\r\n\n.\r\nQUIT\r"),
    JSON.stringify(whole.messages[0]!.text),
  );
  assert.ok(whole.messages[1]!.text.endsWith("Subject: y\r\n\r\n.\r\n..a\r\n"));
  assert.match(whole.sent, /550 5\.6\.11 .*221 2\.0\.0 /s);
  for (let i = 1; i < bytes.length; i += 2) {
    const { sent, messages } = await talk([bytes.subarray(0, i), bytes.subarray(i)]);
    assert.equal(sent, whole.sent, `split at ${i}`);
    assert.deepEqual(messages, whole.messages);
  }
  const single = await talk(Array.from(bytes, (byte) => Uint8Array.of(byte)));
  assert.equal(single.sent, whole.sent);
  assert.deepEqual(single.messages, whole.messages);
});

Deno.test("any bytes get well-formed replies, and every message begun is kept or given up", async () => {
  const word = fc.oneof(
    fc.constantFrom(
      "EHLO c\r\n",
      "HELO c\r\n",
      "MAIL FROM:<a@b.example>\r\n",
      "MAIL FROM:<a@b.example> SMTPUTF8 BODY=BINARYMIME\r\n",
      "RCPT TO:<user@local.test>\r\n",
      "RCPT TO:<nobody@local.test>\r\n",
      "DATA\r\n",
      "BDAT 7\r\n",
      "BDAT 3 LAST\r\n",
      "RSET\r\n",
      "\r\n.\r\n",
      ".\r\n",
      "\n",
      "AUTH PLAIN\r\n",
      "HELP\r\n",
      "Subject: x\r\n\r\n",
      "STARTTLS\r\n",
      "NOOP\r\n",
    ),
    fc.string({ unit: "binary", maxLength: 10 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(word, { maxLength: 30 }), fc.nat(), fc.boolean(), async (words, at, greet) => {
      const bytes = encode((greet ? "EHLO c\r\n" : "") + words.join(""));
      const cut = at % (bytes.length + 1);
      const { sent, acceptor } = await talk([bytes.subarray(0, cut), bytes.subarray(cut)]);
      for (const line of sent.split("\r\n").slice(0, -1)) assert.match(line, /^[2345]\d\d[ -][ -~]*$/);
      assert.ok(sent.endsWith("\r\n"));
      assert.equal(acceptor.messages.length + acceptor.aborted, acceptor.begun);
      assert.equal(sent.match(/OK queued as/g)?.length ?? 0, acceptor.messages.length);
    }),
    { numRuns: 500 },
  );
});
