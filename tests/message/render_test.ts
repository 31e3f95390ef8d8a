import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { type AddressObject, simpleParser } from "mailparser";
import {
  type Address,
  checkAttachment,
  checkHeaders,
  distinctAddresses,
  type Draft,
  DraftError,
  parseAddress,
  parseAddresses,
} from "../../src/message/draft.ts";
import { decodeHeaderText } from "../../src/message/header.ts";
import { renderMessage } from "../../src/message/render.ts";

const CONTEXT = { hostname: "mx.example.org", date: Date.UTC(2026, 10, 24, 9, 24, 23), uniqueId: "u1" };
const ANN: Address = { name: "Ann Ü, PhD", address: "ann@example.com" };
const BOB: Address = { address: "bob@example.net" };

async function compose(changes: Partial<Draft>) {
  const draft: Draft = {
    from: ANN,
    to: [BOB],
    cc: [],
    bcc: [],
    replyTo: [],
    headers: [],
    attachments: [],
    ...changes,
  };
  const rendered = await renderMessage(draft, CONTEXT);
  const source = Buffer.from(rendered.content).toString("latin1");
  assert.doesNotMatch(source, /\r(?!\n)|(?<!\r)\n/);
  return { ...rendered, source, mail: await simpleParser(Buffer.from(rendered.content)) };
}

function typesOf(source: string): string[] {
  return [...source.matchAll(/^Content-Type: ([^;\r]+)/gm)].map((match) => match[1]!);
}

Deno.test("text only, html only, and both", async () => {
  const text = await compose({ text: "Hello" });
  assert.deepEqual(typesOf(text.source), ["text/plain"]);
  const html = await compose({ html: "<p>Hello</p>" });
  assert.deepEqual(typesOf(html.source), ["text/html"]);
  const both = await compose({ text: "Hello", html: "<p>Hello</p>" });
  assert.deepEqual(typesOf(both.source), ["multipart/alternative", "text/plain", "text/html"]);
  assert.equal(both.mail.text?.trim(), "Hello");
  assert.equal(both.mail.html, "<p>Hello</p>");
});

Deno.test("attachments go into multipart/mixed, byte for byte; inline ones beside the html", async () => {
  const content = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
  const { source, mail, body } = await compose({
    text: "see there",
    html: '<img src="cid:logo">',
    attachments: [
      { content, filename: "größe.bin", contentType: "application/octet-stream" },
      { content: Uint8Array.of(1, 2), filename: "logo.png", cid: "logo" },
    ],
  });
  assert.equal(typesOf(source)[0], "multipart/mixed");
  assert.ok(typesOf(source).includes("multipart/related"));
  assert.ok(typesOf(source).includes("multipart/alternative"));
  const [logo, file] = ["image/png", "application/octet-stream"].map((type) =>
    mail.attachments.find(({ contentType }) => contentType === type)!
  );
  assert.deepEqual(new Uint8Array(file!.content), content);
  assert.equal(file!.filename, "größe.bin");
  assert.equal(logo!.contentId, "<logo>");
  assert.equal(body, "7BIT");
});

Deno.test("the header has what RFC 5322 asks for, non-ASCII encoded, and never Bcc", async () => {
  const { mail, source, messageId, smtpUtf8 } = await compose({
    cc: [{ name: 'Q "uote', address: "cc@example.net" }],
    bcc: [{ address: "secret@example.net" }],
    replyTo: [{ address: "reply@example.com" }],
    subject: "Grüße 🚀 " + "lang ".repeat(40),
    text: "Ünïcode",
    headers: [{ name: "X-Campaign", value: "frühling" }, {
      name: "List-Unsubscribe",
      value: "<https://example.com/u>",
    }],
  });
  assert.equal(smtpUtf8, false);
  assert.equal(messageId, "u1@mx.example.org");
  assert.equal(mail.messageId, "<u1@mx.example.org>");
  assert.equal(mail.date?.getTime(), CONTEXT.date);
  assert.equal(mail.from?.value[0]?.name, ANN.name);
  assert.equal((mail.to as AddressObject).value[0]?.address, "bob@example.net");
  assert.equal((mail.cc as AddressObject).value[0]?.name, 'Q "uote');
  assert.equal(mail.replyTo?.value[0]?.address, "reply@example.com");
  assert.equal(mail.subject?.trim(), ("Grüße 🚀 " + "lang ".repeat(40)).trim());
  assert.equal(decodeHeaderText(String(mail.headers.get("x-campaign"))), "frühling");
  assert.match(source, /^MIME-Version: 1\.0\r$/m);
  assert.doesNotMatch(source, /secret|^bcc/im);
  assert.match(source, /^Date: Tue, 24 Nov 2026 09:24:23 \+0000\r$/m);
});

Deno.test("a message to Bcc alone names nobody", async () => {
  const { source, mail } = await compose({ to: [], bcc: [{ address: "secret@example.net" }], text: "x" });
  assert.doesNotMatch(source, /secret/);
  assert.match(source, /^To: undisclosed-recipients:;\r$/m);
  assert.equal(mail.bcc, undefined);
});

Deno.test("Date and Message-ID of the caller are kept, nonsense is refused", async () => {
  const { messageId, source } = await compose({
    text: "x",
    headers: [{ name: "message-id", value: "<own@example.com>" }, {
      name: "Date",
      value: "Mon, 1 Jan 2024 00:00:00 +0100",
    }],
  });
  assert.equal(messageId, "own@example.com");
  assert.equal(source.match(/^message-id:/gim)?.length, 1);
  assert.equal(source.match(/^date: Mon, 1 Jan 2024 00:00:00 \+0100\r$/gim)?.length, 1);
  await assert.rejects(
    compose({ text: "x", headers: [{ name: "Message-ID", value: "nonsense" }] }),
    DraftError,
  );
  await assert.rejects(
    compose({ text: "x", headers: [{ name: "Date", value: "yesterday-ish" }] }),
    DraftError,
  );
});

Deno.test("unusual but right addresses pass through unharmed", async () => {
  const odd = ['"a b"@example.net', '"x@y"@example.net', "user+tag@example.net", "user@[127.0.0.1]"];
  const { mail } = await compose({ text: "x", to: odd.map((address) => parseAddress(address, "to")) });
  assert.deepEqual(
    (mail.to as AddressObject).value.map(({ address }) => address?.replaceAll('"', "")),
    odd.map((each) => each.replaceAll('"', "")),
  );
  const utf8 = await compose({ text: "x", to: [parseAddress("bjørn@bücher.example", "to")] });
  assert.equal(utf8.smtpUtf8, true);
  assert.equal(utf8.body, "8BITMIME");
  const domain = await compose({ text: "x", to: [parseAddress("bob@bücher.example", "to")] });
  assert.equal(domain.smtpUtf8, false);
  assert.match(domain.source, /bob@xn--bcher-kva\.example/);
});

Deno.test("addresses in every form of the contract", () => {
  const expected = { name: "Ann, B", address: "ann@example.com" };
  assert.deepEqual(parseAddress('"Ann, B" <ann@EXAMPLE.com>', "from"), expected);
  assert.deepEqual(parseAddress({ email: "ann@example.com", name: "Ann, B" }, "from"), expected);
  assert.deepEqual(parseAddress("Ann B. <ann@example.com>", "from"), {
    name: "Ann B.",
    address: "ann@example.com",
  });
  assert.deepEqual(parseAddress("<ann@example.com>", "from"), { address: "ann@example.com" });
  assert.deepEqual(parseAddress(" ann@example.com ", "from"), { address: "ann@example.com" });
  assert.deepEqual(parseAddress('Odd <"a>b"@example.com>', "from"), {
    name: "Odd",
    address: '"a>b"@example.com',
  });
  assert.equal(parseAddresses(["a@example.com", { email: "b@example.com" }], "to").length, 2);
  const twice = parseAddresses(["A@x.example", "a@x.example", "A@X.example"], "to");
  assert.deepEqual(distinctAddresses(twice), ["A@x.example", "a@x.example"]);
  const wrong = [
    "",
    "nobody",
    "a@b@c.example",
    "a@example.com, b@example.com",
    "Ann <a@example.com> trailing",
    "Ann <a@example.com> <b@example.com>",
    "a@example.com\r\nBcc: b@example.com",
    "Ann\n <a@example.com>",
    "<>",
    "a b@example.com",
  ];
  for (const text of wrong) {
    assert.throws(() => parseAddress(text, "to.0"), (error: unknown) => {
      return error instanceof DraftError && error.path === "to.0";
    }, text);
  }
  assert.throws(() => parseAddress({ email: "a@example.com", name: "x\r\nBcc: y" }, "to"), DraftError);
  assert.throws(() => parseAddress({ email: "Ann <a@example.com>" }, "to"), DraftError);
});

Deno.test("headers: blanks are left out, reserved names and line breaks refused", () => {
  assert.deepEqual(checkHeaders([{ name: "X-A", value: "  " }, { name: "X-B", value: " b " }], "headers"), [
    { name: "X-B", value: "b" },
  ]);
  for (
    const name of ["Bcc", "from", "Content-Type", "MIME-Version", "Received", "X:", "X Y", "", "Ü", "X\r\nY"]
  ) {
    assert.throws(() => checkHeaders([{ name, value: "v" }], "headers"), DraftError, name);
  }
  for (const value of ["a\r\nBcc: x@example.com", "a\nb", "a\rb", "a\0b", "a\u2028b"]) {
    assert.throws(() => checkHeaders([{ name: "X-A", value }], "headers"), DraftError);
  }
  const twice = [{ name: "Message-ID", value: "<a@b>" }, { name: "message-id", value: "<c@d>" }];
  assert.throws(() => checkHeaders(twice, "headers"), DraftError);
});

Deno.test("attachments: impossible types, names and ids are refused", () => {
  const content = new Uint8Array(1);
  assert.ok(
    checkAttachment({ content, contentType: "text/plain; charset=utf-8", cid: "a@b" }, "attachments.0"),
  );
  for (
    const wrong of [
      { contentType: "text" },
      { contentType: "text/plain\r\nX: y" },
      { contentType: "multipart/mixed" },
      { filename: "a\r\nb" },
      { cid: "a>b" },
    ]
  ) {
    assert.throws(
      () => checkAttachment({ content, ...wrong }, "attachments.0"),
      DraftError,
      JSON.stringify(wrong),
    );
  }
});

Deno.test("whatever the text is, it arrives", async () => {
  const body = fc.string({ unit: "grapheme", maxLength: 2000 }).map((text) =>
    text.replace(/[\p{Cc}\ufeff\s]+/gu, " ")
  );
  await fc.assert(
    fc.asyncProperty(body, async (text) => {
      const { mail, content } = await compose({ text: `>${text}<` });
      assert.equal(mail.text?.trimEnd(), `>${text}<`);
      assert.ok(content.every((byte) => byte < 128));
    }),
    { numRuns: 100 },
  );
});
