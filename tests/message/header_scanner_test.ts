import assert from "node:assert/strict";
import { HeaderScanner } from "../../src/message/header_scanner.ts";
import { formatDate } from "../../src/message/header.ts";
import { receivedField } from "../../src/message/received.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function scan(chunks: readonly Uint8Array[], limit?: number) {
  const scanner = new HeaderScanner(limit);
  let out = "";
  for (const chunk of chunks) {
    if (scanner.facts) out += decode(chunk);
    else out += decode(scanner.push(chunk) ?? new Uint8Array(0));
  }
  if (!scanner.facts) out += decode(scanner.end());
  return { out, facts: scanner.facts };
}

Deno.test("facts do not depend on chunk borders, and no byte is lost", () => {
  const text =
    "Received: a\r\n\tReceived: folded\r\nRECEIVED : b\r\nMessage-Id:\r\n <x@y>\r\nDate: now\r\n\r\nReceived: body\r\n\r\n";
  const bytes = encode(text);
  const expected = {
    out: text,
    facts: { received: 2, hasDate: true, hasMessageId: true, messageId: "x@y", bodyOnly: false },
  };
  for (let i = 0; i <= bytes.length; i++) {
    for (let j = i; j <= bytes.length; j += 5) {
      assert.deepEqual(
        scan([bytes.subarray(0, i), bytes.subarray(i, j), bytes.subarray(j)]),
        expected,
        `${i} ${j}`,
      );
    }
  }
});

Deno.test("content without a header, or without a body", () => {
  const none = { received: 0, hasDate: false, hasMessageId: false };
  assert.deepEqual(scan([encode("hello\r\nDate: x\r\n\r\n")]).facts?.bodyOnly, true);
  assert.deepEqual(scan([encode("\r\nDate: body\r\n")]).facts, { ...none, bodyOnly: false });
  assert.deepEqual(scan([encode("Subject: x\r\n")]).facts, { ...none, bodyOnly: false });
  assert.deepEqual(scan([]).out, "");
  assert.deepEqual(scan([encode("Message-ID: junk\r\n\r\n")]).facts, {
    ...none,
    hasMessageId: true,
    bodyOnly: false,
  });
});

Deno.test("a header section without end is held up to the limit only", () => {
  const scanner = new HeaderScanner(1000);
  const line = encode("X: ".padEnd(98, "x") + "\r\n");
  for (let i = 0; i < 9; i++) assert.equal(scanner.push(line), undefined);
  assert.equal(scanner.push(line)?.length, 1000);
  assert.deepEqual(scanner.facts?.received, 0);
});

Deno.test("the trace field", () => {
  const base = {
    helo: "c.example",
    by: "mx.test",
    protocol: "ESMTP",
    id: "1",
    at: Date.UTC(2024, 1, 3, 4, 5, 6),
  };
  assert.equal(
    receivedField({ ...base, client: "192.0.2.1" }),
    "Received: from c.example ([192.0.2.1])\r\n\tby mx.test with ESMTP id 1;\r\n\tSat, 3 Feb 2024 04:05:06 +0000\r\n",
  );
  assert.match(
    receivedField({ ...base, client: "2001:db8::1", tls: "TLSv1.3 X", recipient: "a@b" }),
    /\(\[IPv6:2001:db8::1\]\)\r\n.*\r\n\t\(TLSv1\.3 X\)\r\n\tfor <a@b>;\r\n/,
  );
  assert.equal(formatDate(0), "Thu, 1 Jan 1970 00:00:00 +0000");
});
