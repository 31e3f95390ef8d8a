import assert from "node:assert/strict";
import fc from "fast-check";
import { DataScanner } from "../../src/smtp/data_scanner.ts";
import { DotStuffer } from "../../src/smtp/dot_stuffer.ts";
import { LineEndCheck } from "../../src/smtp/line_ends.ts";
import { LineScanner } from "../../src/smtp/line_scanner.ts";

const encode = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const decode = (bytes: Uint8Array) => String.fromCharCode(...bytes);

interface Scanned {
  content: string;
  done: boolean;
  consumed: number;
  bare: boolean;
}

/** What the scanner must say, by the shortest definition. */
function reference(input: string): Scanned {
  const lines = "\r\n" + input;
  const end = lines.indexOf("\r\n.\r\n");
  const done = end >= 0;
  let data = done ? lines.slice(0, end + 2) : lines;
  // Of an unfinished end nothing is known yet: the dot is removed, and its CR kept back.
  if (!done && data.endsWith("\r\n.\r")) data = data.slice(0, -1);
  const content = data.replace(/\r\n\./g, "\r\n").slice(2);
  return {
    content,
    done,
    consumed: done ? end + 3 : input.length,
    bare: /\r[^\n]|(?<!\r)\n/s.test(data),
  };
}

function scan(chunks: readonly Uint8Array[]): Scanned {
  const scanner = new DataScanner();
  let content = "";
  let before = 0;
  for (const chunk of chunks) {
    const result = scanner.push(chunk);
    content += result.content.map(decode).join("");
    if (result.done) {
      return { content, done: true, consumed: before + result.consumed, bare: scanner.bareLineEnd };
    }
    assert.equal(result.consumed, chunk.length);
    before += chunk.length;
  }
  return { content, done: false, consumed: before, bare: scanner.bareLineEnd };
}

function* strings(alphabet: string, length: number): Generator<string> {
  if (length === 0) return yield "";
  for (const start of strings(alphabet, length - 1)) for (const char of alphabet) yield start + char;
}

Deno.test("DataScanner agrees with the reference on all short strings, whole and byte by byte", () => {
  for (let length = 0; length <= 8; length++) {
    for (const text of strings("\r\n.a", length)) {
      const expected = reference(text);
      const bytes = encode(text);
      const whole = scan([bytes]);
      // The CR kept back behind a dot may turn out a bare one only with the next byte.
      assert.deepEqual(whole, expected, JSON.stringify(text));
      assert.deepEqual(
        scan(Array.from(bytes, (byte) => Uint8Array.of(byte))),
        expected,
        JSON.stringify(text),
      );
    }
  }
});

Deno.test("DataScanner does not see where chunks end", () => {
  const text = "a\r\n..\r\n.b\r\n\r\r\n.\r\r\n.\nc\r\n...\r\n.\r\nQUIT\r\n";
  const bytes = encode(text);
  const expected = reference(text);
  assert.equal(expected.done, true);
  for (let i = 0; i <= bytes.length; i++) {
    for (let j = i; j <= bytes.length; j++) {
      const parts = [bytes.subarray(0, i), bytes.subarray(i, j), bytes.subarray(j)];
      assert.deepEqual(scan(parts), expected, `${i} ${j}`);
    }
  }
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
  "\r\n.\r\r\n",
  "\r\r\n.\r\r\n",
];

for (const sequence of SMUGGLING) {
  Deno.test(`DataScanner is not ended by ${JSON.stringify(sequence)}`, () => {
    const text = `a${sequence}MAIL FROM:<evil@example.com>\r\n.\r\n`;
    const bytes = encode(text);
    for (let i = 0; i <= bytes.length; i++) {
      const result = scan([bytes.subarray(0, i), bytes.subarray(i)]);
      assert.equal(result.done, true);
      assert.equal(result.consumed, bytes.length);
      assert.equal(result.bare, sequence !== "\r\n\0.\r\n");
    }
  });

  Deno.test(`DotStuffer makes ${JSON.stringify(sequence)} harmless`, () => {
    const bytes = encode(`a${sequence}b`);
    for (let i = 0; i <= bytes.length; i++) {
      const sent = stuff([bytes.subarray(0, i), bytes.subarray(i)]);
      const end = sent.indexOf("\r\n.\r\n");
      assert.equal(end, sent.length - 5);
      assert.doesNotMatch(sent, /\r[^\n]|(?<!\r)\n/s);
      // No receiver, however lenient about line ends, finds a dot alone on a line before the end.
      assert.doesNotMatch(sent.slice(0, end), /[\r\n]\.[\r\n]/);
    }
  });
}

function stuff(chunks: readonly Uint8Array[]): string {
  const stuffer = new DotStuffer();
  return chunks.map((chunk) => decode(stuffer.push(chunk))).join("") + decode(stuffer.end());
}

Deno.test("DotStuffer agrees with the reference on all short strings, whole and byte by byte", () => {
  for (let length = 0; length <= 7; length++) {
    for (const text of strings("\r\n.a", length)) {
      const lines = text.replace(/\r\n|\r|\n/g, "\r\n").replace(/(^|\r\n)\./g, "$1..");
      const expected = lines + (lines === "" || lines.endsWith("\r\n") ? "" : "\r\n") + ".\r\n";
      const bytes = encode(text);
      assert.equal(stuff([bytes]), expected, JSON.stringify(text));
      assert.equal(stuff(Array.from(bytes, (byte) => Uint8Array.of(byte))), expected, JSON.stringify(text));
    }
  }
});

Deno.test("DotStuffer gives a clean chunk back as it is", () => {
  const chunk = encode("Subject: x\r\n\r\nbody\r\nmore\r\n");
  assert.equal(new DotStuffer().push(chunk), chunk);
});

Deno.test("what DotStuffer sends, DataScanner gives back", () => {
  const text = fc.array(fc.constantFrom("\r\n", ".", "a", "\r\n.", "..", " ")).map((parts) => parts.join(""));
  fc.assert(fc.property(text, fc.nat(), fc.nat(), (content, a, b) => {
    const bytes = encode(content);
    const sent = encode(
      stuff([bytes.subarray(0, a % (bytes.length + 1)), bytes.subarray(a % (bytes.length + 1))]),
    );
    const cut = b % (sent.length + 1);
    const result = scan([sent.subarray(0, cut), sent.subarray(cut)]);
    const whole = content === "" || content.endsWith("\r\n") ? content : content + "\r\n";
    assert.deepEqual(result, { content: whole, done: true, consumed: sent.length, bare: false });
  }));
});

Deno.test("LineEndCheck agrees with the reference on all short strings", () => {
  for (let length = 0; length <= 6; length++) {
    for (const text of strings("\r\na", length)) {
      const bytes = encode(text);
      for (let i = 0; i <= bytes.length; i++) {
        const check = new LineEndCheck();
        check.push(bytes.subarray(0, i));
        check.push(bytes.subarray(i));
        check.end();
        assert.equal(check.bareLineEnd, /\r(?!\n)|(?<!\r)\n/.test(text), JSON.stringify(text));
      }
    }
  }
});

function lines(chunks: readonly Uint8Array[], max = 16): string[] {
  const scanner = new LineScanner(max);
  const found: string[] = [];
  for (const chunk of chunks) {
    // A reader that uses one buffer again and again.
    const buffer = chunk.slice();
    scanner.push(buffer);
    for (let line = scanner.next(); line; line = scanner.next()) found.push(line.fault ?? line.text);
    scanner.detach();
    buffer.fill(0);
  }
  return found;
}

Deno.test("LineScanner does not see where chunks end, and names each fault once", () => {
  const text = "EHLO a\r\nx\ny\rz\r\n" + "l".repeat(40) +
    "\r\n\r\n12345678901234\r\n123456789012345\r\nü\r\nQUIT\r\nleft";
  const bytes = new TextEncoder().encode(text);
  const expected = [
    "EHLO a",
    "bare LF",
    "bare CR",
    "too long",
    "",
    "12345678901234",
    "too long",
    "ü",
    "QUIT",
  ];
  for (let i = 0; i <= bytes.length; i++) {
    for (let j = i; j <= bytes.length; j += 3) {
      assert.deepEqual(
        lines([bytes.subarray(0, i), bytes.subarray(i, j), bytes.subarray(j)]),
        expected,
        `${i} ${j}`,
      );
    }
  }
  assert.deepEqual(lines(Array.from(bytes, (byte) => Uint8Array.of(byte))), expected);
});

Deno.test("LineScanner holds no more than one line of a line without end", () => {
  const scanner = new LineScanner(100);
  for (let i = 0; i < 1000; i++) {
    scanner.push(new Uint8Array(1000).fill(97));
    assert.equal(scanner.next(), undefined);
    assert.ok(scanner.pending <= 100);
  }
  scanner.push(encode("\r\nNOOP\r\n"));
  assert.deepEqual([scanner.next(), scanner.next()], [{ text: "", fault: "too long" }, { text: "NOOP" }]);
});

Deno.test("LineScanner tells a line that is not UTF-8", () => {
  assert.deepEqual(lines([Uint8Array.of(0xff, 13, 10)]), ["not UTF-8"]);
});

Deno.test("LineScanner gives out what is not read as lines", () => {
  const scanner = new LineScanner(100);
  scanner.push(encode("DATA\r\ncontent"));
  assert.equal(scanner.next()?.text, "DATA");
  assert.equal(decode(scanner.takeRest()), "content");
  assert.equal(scanner.pending, 0);
  assert.equal(scanner.next(), undefined);
});
