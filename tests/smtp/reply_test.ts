import assert from "node:assert/strict";
import fc from "fast-check";
import { NO_EXTENSIONS, parseEhlo } from "../../src/smtp/extension.ts";
import {
  encodeReply,
  formatReply,
  type Reply,
  reply,
  ReplyError,
  ReplyParser,
} from "../../src/smtp/reply.ts";
import { decodeUtf8Xtext, decodeXtext, encodeUtf8Xtext, encodeXtext } from "../../src/smtp/xtext.ts";

const encode = (text: string) => new TextEncoder().encode(text);

const line = fc.stringMatching(/^(?:[A-Za-z][ -~]{0,30})?$/);
const anyReply: fc.Arbitrary<Reply> = fc.record({
  code: fc.integer({ min: 200, max: 599 }),
  detail: fc.option(fc.tuple(fc.nat(9), fc.nat(99)), { nil: undefined }),
  lines: fc.array(line, { minLength: 1, maxLength: 4 }),
}).map(({ code, detail, lines }) => {
  const kind = Math.floor(code / 100);
  return reply(code, detail && kind !== 3 ? `${kind}.${detail[0]}.${detail[1]}` : undefined, ...lines);
});

Deno.test("ReplyParser reads what encodeReply writes, at any chunk border", () => {
  fc.assert(fc.property(fc.array(anyReply, { minLength: 1, maxLength: 3 }), fc.nat(), (replies, at) => {
    const bytes = encode(replies.map(encodeReply).join(""));
    const cut = at % (bytes.length + 1);
    const parser = new ReplyParser();
    assert.deepEqual([...parser.push(bytes.subarray(0, cut)), ...parser.push(bytes.subarray(cut))], replies);
    assert.equal(parser.empty, true);
  }));
});

Deno.test("ReplyParser takes what servers really send", () => {
  const parse = (text: string) => new ReplyParser().push(encode(text));
  assert.deepEqual(parse("250\r\n"), [reply(250, undefined, "")]);
  assert.deepEqual(parse("250 ok\n"), [reply(250, undefined, "ok")]);
  assert.deepEqual(parse("550-5.1.1 No\r\n550 5.1.1 user\r\n"), [reply(550, "5.1.1", "No", "user")]);
  assert.deepEqual(parse("550 4.1.1 odd\r\n"), [reply(550, undefined, "4.1.1 odd")]);
});

for (const text of ["hello\r\n", "650 x\r\n", "25 x\r\n", "250-a\r\n251 b\r\n", "2500\r\n"]) {
  Deno.test(`ReplyParser refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => new ReplyParser().push(encode(text)), ReplyError);
  });
}

Deno.test("ReplyParser refuses a reply without end", () => {
  const parser = new ReplyParser();
  assert.throws(() => {
    for (let i = 0; i < 10_000; i++) parser.push(encode("250-" + "a".repeat(100) + "\r\n"));
  }, ReplyError);
  assert.throws(() => new ReplyParser().push(encode("250 " + "a".repeat(10_000))), ReplyError);
});

Deno.test("formatReply is one line without control characters", () => {
  assert.equal(formatReply(reply(550, "5.1.1", "No\x1b[31m", "such\r\nuser")), "550 5.1.1 No [31m such user");
  assert.equal(formatReply(reply(250, undefined, "")), "250");
});

Deno.test("encodeReply cannot be made to send two replies", () => {
  assert.equal(encodeReply(reply(250, undefined, "a\r\n550 b")), "250 a  550 b\r\n");
});

Deno.test("xtext both ways", () => {
  fc.assert(fc.property(fc.string({ unit: "binary-ascii" }), (text) => {
    assert.equal(decodeXtext(encodeXtext(text)), text);
    assert.match(encodeXtext(text), /^[!-~]*$/);
  }));
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), (text) => {
    assert.equal(decodeUtf8Xtext(encodeUtf8Xtext(text)), text);
    assert.match(encodeUtf8Xtext(text), /^[!-~]*$/);
  }));
  assert.throws(() => encodeXtext("ü"), RangeError);
  assert.equal(decodeXtext("a=b"), undefined);
  assert.equal(decodeXtext("a+2b"), undefined);
  assert.equal(decodeUtf8Xtext("\\x{FFFFFF}"), undefined);
  assert.equal(decodeUtf8Xtext("jürgen"), "jürgen");
});

Deno.test("parseEhlo reads keywords", () => {
  const extensions = parseEhlo(
    reply(
      250,
      undefined,
      "mx.example",
      "size 1000",
      "AUTH plain LOGIN",
      "LIMITS RCPTMAX=50 MAILMAX=x",
      "8BITMIME",
      "?!",
    ),
  );
  assert.equal(extensions.maxSize, 1000);
  assert.deepEqual(extensions.authMechanisms, ["PLAIN", "LOGIN"]);
  assert.deepEqual(extensions.limits, { rcptMax: 50 });
  assert.equal(extensions.has("8BITMIME"), true);
  assert.equal(extensions.has("MX.EXAMPLE"), false);
  assert.equal(NO_EXTENSIONS.has("SIZE"), false);
  assert.equal(parseEhlo(reply(250, undefined, "mx", "SIZE 0")).maxSize, undefined);
});
