import assert from "node:assert/strict";
import fc from "fast-check";
import {
  decodeHeaderText,
  fieldValue,
  foldField,
  formatDate,
  headerEnd,
  parseHeader,
  parseMessageId,
} from "../../src/message/header.ts";

Deno.test("fields are unfolded, end at the empty line, and junk lines are skipped", () => {
  const fields = parseHeader("A: one\r\n two\r\nnonsense\nB:three\r\nb : four\r\n\r\nC: body\r\n");
  assert.deepEqual(fields, [
    { name: "A", value: "one two" },
    { name: "B", value: "three" },
    { name: "b", value: "four" },
  ]);
  assert.equal(fieldValue(fields, "b"), "three");
  assert.equal(fieldValue(fields, "c"), undefined);
});

Deno.test("folding and parsing are inverse, and lines fit", () => {
  const word = fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 })
    .map((text) => text.replace(/[\p{Cc}\s\u2028-\u202e\u2066-\u2069]+/gu, "x"));
  fc.assert(fc.property(fc.array(word, { minLength: 1, maxLength: 60 }), (words) => {
    const value = words.join(" ").trim();
    const field = foldField("X-Test", value);
    assert.deepEqual(parseHeader(field), [{ name: "X-Test", value }]);
    for (const line of field.split("\r\n")) assert.ok(new TextEncoder().encode(line).length <= 998);
  }));
  const long = foldField("X", "\u20ac".repeat(4000));
  for (const line of long.split("\r\n")) assert.ok(new TextEncoder().encode(line).length <= 998);
});

Deno.test("encoded words are decoded, across words and charsets", () => {
  const cases: [string, string][] = [
    ["=?utf-8?B?R3LDvMOfZQ==?= an alle", "Grüße an alle"],
    ["=?UTF-8?Q?Gr=C3=BC=C3?= =?utf-8?q?=9Fe?=", "Grüße"],
    ["=?iso-8859-1*de?q?caf=E9_cr=E8me?=", "café crème"],
    ["=?koi8-r?B?8NLJ18XU?=", "Привет"],
    ["=?no-such-charset?q?x?=", "=?no-such-charset?q?x?="],
    ["Gr\u00c3\u00bc\u00c3\u009fe", "Grüße"],
    ["caf\u00e9", "café"],
    ["=?utf-8?q?a=0D=0Ab=00?=", "a b"],
    ["plain", "plain"],
  ];
  for (const [raw, text] of cases) assert.equal(decodeHeaderText(raw), text, raw);
});

Deno.test("where the header ends", () => {
  const end = (text: string) => headerEnd(new TextEncoder().encode(text));
  assert.equal(end("A: b\r\n\r\nbody"), 8);
  assert.equal(end("A: b\n\nbody"), 6);
  assert.equal(end("\r\nbody"), 2);
  assert.equal(end("A: b\r\n"), 6);
  assert.equal(end(""), 0);
});

Deno.test("dates and message ids", () => {
  assert.equal(formatDate(Date.UTC(2026, 0, 2, 3, 4, 5)), "Fri, 2 Jan 2026 03:04:05 +0000");
  assert.equal(parseMessageId(" <a@b> <c@d>"), "a@b");
  assert.equal(parseMessageId("a@b"), undefined);
  assert.equal(parseMessageId(undefined), undefined);
});
