import assert from "node:assert/strict";
import fc from "fast-check";
import {
  AddressError,
  domainOf,
  formatMailbox,
  type Mailbox,
  parseForwardPath,
  parseMailbox,
  parseReversePath,
} from "../../src/smtp/address.ts";
import { type Command, CommandError, encodeCommand, parseCommand } from "../../src/smtp/command.ts";

/** Plain objects, as parsers give them. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true });
const atom = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}$/);
const label = fc.stringMatching(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,8}[A-Za-z0-9])?$/);
const domain = fc.oneof(
  fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join(".")),
  fc.ipV4().map((ip) => `[${ip}]`),
  fc.ipV6().map((ip) => `[IPv6:${ip}]`),
  fc.constant("[tag:some-text]"),
);
const printable = fc.stringMatching(/^[ -~]{0,30}$/);
const mailbox: fc.Arbitrary<Mailbox> = record({
  localPart: fc.oneof(
    fc.array(atom, { minLength: 1, maxLength: 3 }).map((atoms) => atoms.join(".")),
    printable,
  ),
  domain,
});
const unicodeMailbox: fc.Arbitrary<Mailbox> = record({
  localPart: fc.constantFrom("jürgen", "用户", "δοκιμή.x", "a b ü"),
  domain: fc.constantFrom("bücher.example", "例え.jp", "example.com"),
});
const address = mailbox.map(formatMailbox);

Deno.test("parseMailbox reads what formatMailbox writes", () => {
  fc.assert(fc.property(mailbox, (each) => assert.deepEqual(parseMailbox(formatMailbox(each)), each)));
  fc.assert(
    fc.property(unicodeMailbox, (each) => {
      assert.deepEqual(parseMailbox(formatMailbox(each), { utf8: true }), each);
      assert.throws(() => parseMailbox(formatMailbox(each)), AddressError);
    }),
    { numRuns: 30 },
  );
});

Deno.test("parseMailbox throws AddressError, and nothing else, for junk", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.boolean(), (text, utf8) => {
    try {
      parseMailbox(text, { utf8 });
    } catch (error) {
      assert.ok(error instanceof AddressError, String(error));
    }
  }));
});

const REFUSED = [
  "",
  "a",
  "@b.example",
  "a@",
  "a b@c.example",
  ".a@b.example",
  "a..b@c.example",
  "a.@b.example",
  "a@b..example",
  "a@.b.example",
  "a@b.example.",
  "a@-b.example",
  "a@b_c.example",
  "a@[1.2.3]",
  "a@[1.2.3.4",
  "a@[IPv6:1.2.3.4]",
  "a@[IPv6:fe80::1%eth0]",
  "a@b@c.example",
  '"a@b.example',
  '"a"b@c.example',
  '"a\r\n"@b.example',
  "a\0@b.example",
  `${"a".repeat(65)}@b.example`,
  `a@${"b".repeat(64)}.example`,
  `a@${"b.".repeat(127)}example`,
];
for (const text of REFUSED) {
  Deno.test(`parseMailbox refuses ${JSON.stringify(text.slice(0, 40))}`, () => {
    assert.throws(() => parseMailbox(text), AddressError);
  });
}

Deno.test("a quoted local part is its value", () => {
  assert.deepEqual(parseMailbox('"a\\"b c"@example.com'), { localPart: 'a"b c', domain: "example.com" });
  assert.equal(formatMailbox(parseMailbox('"plain"@example.com')), "plain@example.com");
  assert.equal(domainOf('"a@b"@Example.COM'), "example.com");
  assert.equal(domainOf("postmaster"), "");
});

Deno.test("paths: null, source routes, bare postmaster", () => {
  assert.equal(parseReversePath("<>"), undefined);
  assert.throws(() => parseForwardPath("<>"), AddressError);
  assert.deepEqual(parseForwardPath("<@a.example,@b.example:u@c.example>"), {
    localPart: "u",
    domain: "c.example",
  });
  assert.deepEqual(parseForwardPath("<@[IPv6:::1],@b.example:u@[IPv6:::2]>"), {
    localPart: "u",
    domain: "[IPv6:::2]",
  });
  assert.throws(() => parseForwardPath("<@a.example>"), AddressError);
  assert.throws(() => parseForwardPath("<@a.example,b:u@c.example>"), AddressError);
  assert.deepEqual(parseForwardPath("<PostMaster>"), { localPart: "PostMaster", domain: "" });
  assert.throws(() => parseReversePath("<postmaster>"), AddressError);
  assert.throws(() =>
    parseForwardPath(`<${"a".repeat(64)}@${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(63)}>`)
  );
});

const notify = fc.oneof(
  fc.constant({ never: true as const }),
  fc.subarray(["success", "failure", "delay"] as const, { minLength: 1 }).map((words) =>
    Object.fromEntries(words.map((word) => [word, true as const]))
  ),
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const defined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T;
const text = fc.stringMatching(/^[!-~](?:[ -~]{0,20}[!-~])?$/);

const command = fc.oneof(
  record({
    verb: fc.constantFrom("EHLO", "HELO", "LHLO"),
    domain: fc.oneof(domain, fc.constant("my_host")),
  }),
  record({
    verb: fc.constant("MAIL"),
    reversePath: fc.oneof(address, fc.constant("")),
    parameters: record({
      size: optional(fc.nat()),
      body: optional(fc.constantFrom("7BIT", "8BITMIME", "BINARYMIME")),
      smtpUtf8: optional(fc.constant(true)),
      ret: optional(fc.constantFrom("FULL", "HDRS")),
      envid: optional(text),
      auth: optional(fc.oneof(address, fc.constant("<>"))),
      requireTls: optional(fc.constant(true)),
    }).map(defined),
  }),
  record({
    verb: fc.constant("RCPT"),
    forwardPath: fc.oneof(address, fc.constant("postmaster")),
    parameters: record({
      notify: optional(notify),
      orcpt: optional(
        fc.oneof(
          text.map((each) => `rfc822;${each}`),
          fc.constantFrom("utf-8;jürgen@bücher.example", "utf-8;a+b=c\\d@e"),
        ),
      ),
    }).map(defined),
  }),
  record({ verb: fc.constantFrom("DATA", "RSET", "QUIT", "STARTTLS") }),
  record({ verb: fc.constant("BDAT"), size: fc.nat(), last: fc.boolean() }),
  record({
    verb: fc.constant("AUTH"),
    mechanism: fc.constantFrom("PLAIN", "SCRAM-SHA-256"),
    initialResponse: optional(fc.uint8Array().map((bytes) => bytes.toBase64())),
  }).map(defined),
  record({ verb: fc.constantFrom("NOOP", "HELP"), argument: optional(text) }).map(defined),
  record({ verb: fc.constantFrom("VRFY", "EXPN"), argument: text }),
) as fc.Arbitrary<Command>;

Deno.test("parseCommand reads what encodeCommand writes", () => {
  fc.assert(
    fc.property(command, (each) => assert.deepEqual(parseCommand(encodeCommand(each), { utf8: true }), each)),
    { numRuns: 2000 },
  );
});

Deno.test("parseCommand does not mind the letter case of verbs and keywords", () => {
  assert.deepEqual(
    parseCommand("mail from:<A@b.example> size=10 body=8bitmime"),
    { verb: "MAIL", reversePath: "A@b.example", parameters: { size: 10, body: "8BITMIME" } },
  );
  assert.deepEqual(
    parseCommand('RCPT TO: <"a> b"@c.example> NOTIFY=success,Delay'),
    { verb: "RCPT", forwardPath: '"a> b"@c.example', parameters: { notify: { success: true, delay: true } } },
  );
});

Deno.test("parseCommand throws CommandError, and nothing else, for junk", () => {
  const verb = fc.constantFrom(
    "MAIL FROM:",
    "RCPT TO:",
    "BDAT ",
    "AUTH ",
    "EHLO ",
    "MAIL FROM:<a@b> ",
    "RCPT TO:<a@b> ",
    "",
  );
  fc.assert(
    fc.property(verb, fc.string({ unit: "binary" }), fc.boolean(), (start, rest, utf8) => {
      try {
        parseCommand(start + rest, { utf8 });
      } catch (error) {
        assert.ok(error instanceof CommandError, String(error));
        assert.ok(error.reply.code >= 500 && error.reply.status?.startsWith("5."));
      }
    }),
    { numRuns: 2000 },
  );
});

const BAD: readonly (readonly [line: string, code: number, status: string])[] = [
  ["", 500, "5.5.2"],
  ["FOO", 500, "5.5.2"],
  ["MAIL", 501, "5.5.4"],
  ["MAIL TO:<a@b>", 501, "5.5.4"],
  ["MAIL FROM:a@b", 501, "5.1.7"],
  ["MAIL FROM:<a@b", 501, "5.1.7"],
  ["MAIL FROM:<a b@c>", 501, "5.1.7"],
  ["MAIL FROM:<a@b>SIZE=1", 501, "5.5.4"],
  ["MAIL FROM:<ü@b>", 553, "5.6.7"],
  ["RCPT TO:<ü@b>", 553, "5.6.7"],
  ["RCPT TO:<>", 501, "5.1.3"],
  ["MAIL FROM:<a@b> SIZE=x", 501, "5.5.4"],
  ["MAIL FROM:<a@b> SIZE", 501, "5.5.4"],
  ["MAIL FROM:<a@b> SIZE=1 SIZE=1", 501, "5.5.4"],
  ["MAIL FROM:<a@b> BODY=9BIT", 501, "5.5.4"],
  ["MAIL FROM:<a@b> SMTPUTF8=1", 501, "5.5.4"],
  ["MAIL FROM:<a@b> RET=ALL", 501, "5.5.4"],
  ["MAIL FROM:<a@b> ENVID=a+zz", 501, "5.5.4"],
  ["MAIL FROM:<a@b> ENVID=a+0D+0A", 501, "5.5.4"],
  ["MAIL FROM:<a@b> ENVID=" + "a".repeat(101), 501, "5.5.4"],
  ["MAIL FROM:<a@b> AUTH=x", 501, "5.5.4"],
  ["MAIL FROM:<a@b> FOO=1", 555, "5.5.4"],
  ["MAIL FROM:<a@b> NOTIFY=NEVER", 555, "5.5.4"],
  ["RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", 501, "5.5.4"],
  ["RCPT TO:<a@b> NOTIFY=", 501, "5.5.4"],
  ["RCPT TO:<a@b> NOTIFY=SOON", 501, "5.5.4"],
  ["RCPT TO:<a@b> ORCPT=a@b", 501, "5.5.4"],
  ["RCPT TO:<a@b> ORCPT=rfc822;a+0Ab", 501, "5.5.4"],
  ["RCPT TO:<a@b> SIZE=1", 555, "5.5.4"],
  ["DATA now", 501, "5.5.4"],
  ["BDAT", 501, "5.5.4"],
  ["BDAT -1", 501, "5.5.4"],
  ["BDAT 9999999999999999 LAST", 501, "5.5.4"],
  ["BDAT 1 FIRST", 501, "5.5.4"],
  ["AUTH", 501, "5.5.4"],
  ["AUTH PLAIN a b", 501, "5.5.4"],
  ["EHLO", 501, "5.5.4"],
  ["EHLO a b", 501, "5.5.4"],
  ["EHLO a)(b", 501, "5.5.4"],
  ["VRFY", 501, "5.5.4"],
  ["NOOP \0", 500, "5.5.2"],
];
for (const [line, code, status] of BAD) {
  Deno.test(`parseCommand answers ${code} ${status} to ${JSON.stringify(line.slice(0, 50))}`, () => {
    assert.throws(() => parseCommand(line), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(error.reply.code, code);
      assert.equal(error.reply.status, status);
      return true;
    });
  });
}

Deno.test("SMTPUTF8 on MAIL lets its own address be UTF-8", () => {
  assert.deepEqual(parseCommand("MAIL FROM:<jürgen@bücher.example> SMTPUTF8"), {
    verb: "MAIL",
    reversePath: "jürgen@bücher.example",
    parameters: { smtpUtf8: true },
  });
});

Deno.test("encodeCommand lets nothing be smuggled in", () => {
  const mail = (reversePath: string): Command => ({ verb: "MAIL", reversePath, parameters: {} });
  assert.throws(() => encodeCommand(mail("a@b\r\nRCPT TO:<c@d>")), AddressError);
  assert.throws(() => encodeCommand(mail("a@b> SIZE=1")), AddressError);
  assert.throws(() => encodeCommand({ verb: "EHLO", domain: "a\r\nQUIT" }), RangeError);
  assert.throws(() => encodeCommand({ verb: "RCPT", forwardPath: "a@b\n", parameters: {} }));
  assert.throws(
    () => encodeCommand({ verb: "RCPT", forwardPath: "a@b", parameters: { orcpt: "rfc822;ü" } }),
    RangeError,
  );
  assert.equal(encodeCommand(mail('"a b"@c.example')), 'MAIL FROM:<"a b"@c.example>');
});
