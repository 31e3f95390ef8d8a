import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { simpleParser } from "mailparser";
import { Unavailable } from "../../src/queue/model.ts";
import { harness, textOf } from "./harness.ts";

const MESSAGE = { from: "ann@example.com", to: "bob@example.net", subject: "Hi", text: "Hello" };

Deno.test("a message is rendered, committed and answered with its id", async () => {
  const { call, acceptor } = harness();
  const { status, json } = await call("/v1/messages", {
    json: {
      from: { email: "ann@example.com", name: "Ann" },
      to: ["Bob <bob@example.net>", "carol@example.org"],
      cc: { email: "dave@example.net" },
      bcc: "secret@example.net",
      subject: "Grüße",
      text: "Hello",
      html: "<p>Hello</p>",
      headers: { "X-Tag": "a", "X-Many": ["b", "c"] },
      attachments: [{ content: btoa("data"), filename: "a.txt" }],
    },
  });
  assert.equal(status, 202);
  assert.deepEqual(json.recipients.map((each: { address: string }) => each.address), [
    "bob@example.net",
    "carol@example.org",
    "dave@example.net",
    "secret@example.net",
  ]);
  assert.ok(
    json.recipients.every((each: { id: string; status: string }) =>
      each.id === "id1" && each.status === "queued"
    ),
  );
  const [accepted] = acceptor.accepted;
  assert.equal(accepted!.reversePath, "ann@example.com");
  assert.deepEqual(accepted!.source, { protocol: "HTTP", user: "local", client: "127.0.0.1" });
  assert.equal(accepted!.headerMessageId, json.messageId);
  const source = textOf(accepted!.content);
  assert.match(
    source,
    /^Received: by mx\.example\.org with HTTP id id1;\r\n Tue, 24 Nov 2026 09:24:23 \+0000\r\n/,
  );
  assert.doesNotMatch(source, /secret|^bcc/im);
  const mail = await simpleParser(source);
  assert.equal(mail.subject, "Grüße");
  assert.equal(mail.attachments[0]?.content.toString(), "data");
});

Deno.test("raw: text or base64, line ends made right, Bcc taken out, Date and Message-ID put in", async () => {
  const { call, acceptor } = harness();
  const raw =
    "From: ann@example.com\nBcc: secret@example.net,\n more@example.net\nSubject: Hi\n\nBody\n.\n\rend";
  for (const each of [raw, Buffer.from(raw).toString("base64"), Buffer.from(raw).toString("base64url")]) {
    const { status } = await call("/v1/messages", {
      json: { from: "ann@example.com", to: "bob@example.net", raw: each },
    });
    assert.equal(status, 202);
    const source = textOf(acceptor.accepted.at(-1)!.content).replace(/^Received: .*\r\n .*\r\n/, "");
    assert.match(
      source,
      /^Date: Tue, 24 Nov 2026 09:24:23 \+0000\r\nMessage-ID: <unique\d@mx\.example\.org>\r\nFrom: ann@example\.com\r\nSubject: Hi\r\n\r\nBody\r\n\.\r\n\r\nend$/,
    );
  }
  const own =
    "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <own@example.com>\r\nSubject: Grüße\r\n\r\nx\r\n";
  const { json } = await call("/v1/messages", {
    json: { from: "ann@example.com", to: "b@example.net", raw: own },
  });
  assert.equal(json.messageId, "own@example.com");
  assert.ok(textOf(acceptor.accepted.at(-1)!.content).endsWith(own));
  assert.equal(acceptor.accepted.at(-1)!.smtpUtf8, true);
  for (const wrong of ["no header at all", "", "A: b\n\n" + "x".repeat(999), "A: b\n\n\0", "AAAA"]) {
    const { status } = await call("/v1/messages", {
      json: { from: "a@example.com", to: "b@example.net", raw: wrong },
    });
    assert.equal(status, 422, wrong.slice(0, 20));
  }
  const both = await call("/v1/messages", { json: { ...MESSAGE, raw } });
  assert.equal(both.json.errors[0].path, "subject");
});

Deno.test("what is wrong is named with its place; nothing is accepted", async () => {
  const { call, acceptor } = harness();
  const cases: [unknown, number, string][] = [
    [{ ...MESSAGE, from: undefined }, 422, "from"],
    [{ ...MESSAGE, from: 5 }, 422, "from"],
    [{ ...MESSAGE, to: [] }, 422, "to"],
    [{ ...MESSAGE, to: ["bob@example.net", "nonsense"] }, 422, "to.1"],
    [{ ...MESSAGE, to: "bob@example.net\r\nDATA" }, 422, "to"],
    [{ ...MESSAGE, subject: "Hi\r\nBcc: x@example.com" }, 422, "subject"],
    [{ ...MESSAGE, headers: { Bcc: "x@example.com" } }, 422, "headers.Bcc"],
    [{ ...MESSAGE, headers: { "X-A": "a\nb" } }, 422, "headers.X-A"],
    [{ ...MESSAGE, attachments: [{ content: "***" }] }, 422, "attachments.0.content"],
    [{ ...MESSAGE, attachments: [{ content: "", path: "/etc/passwd" }] }, 422, "attachments.0"],
    [{ ...MESSAGE, text: undefined }, 422, "text"],
    [{ ...MESSAGE, status: "delivered" }, 422, ""],
    [{ ...MESSAGE, band: 0 }, 422, ""],
    [[], 422, ""],
    ["text", 422, ""],
    [null, 422, ""],
  ];
  for (const [json, status, path] of cases) {
    const answer = await call("/v1/messages", { json });
    assert.equal(answer.status, status, JSON.stringify(json));
    assert.equal(answer.type, "application/problem+json");
    assert.equal(answer.json.errors[0].path, path, JSON.stringify(json));
    assert.equal(answer.json.status, status);
    assert.ok(answer.json.title && answer.json.detail && answer.json.type);
  }
  assert.deepEqual(acceptor.accepted, []);
});

Deno.test("bodies that are no JSON, of another type, or too large", async () => {
  const { call } = harness({ maxMessageSize: 1024 });
  const headers = { "content-type": "application/json" };
  const broken = await call("/v1/messages", { body: '{"from": "secret', headers });
  assert.equal(broken.status, 400);
  assert.doesNotMatch(broken.text, /secret/);
  assert.equal((await call("/v1/messages", { body: new Uint8Array([0xff, 0x22]), headers })).status, 400);
  assert.equal((await call("/v1/messages", { body: "", headers, method: "POST" })).status, 400);
  assert.equal(
    (await call("/v1/messages", { body: "a=b", headers: { "content-type": "text/plain" } })).status,
    415,
  );
  const gzip = { ...headers, "content-encoding": "gzip" };
  assert.equal((await call("/v1/messages", { body: "{}", headers: gzip })).status, 415);
  const large = await call("/v1/messages", { json: { ...MESSAGE, text: "x".repeat(2000) } });
  assert.equal(large.status, 413);
  const huge = await call("/v1/messages", { json: { ...MESSAGE, text: "x".repeat(1_100_000) } });
  assert.equal(huge.status, 413);
  const streamed = ReadableStream.from((async function* () {
    for (let i = 0; i < 200; i++) {
      await Promise.resolve();
      yield new Uint8Array(10_000).fill(32);
    }
    assert.fail("read to the end");
  })());
  assert.equal((await call("/v1/messages", { body: streamed as BodyInit, headers })).status, 413);
});

Deno.test("an unwell queue is told with Retry-After, and a failed commit leaves nothing", async () => {
  const { call, acceptor, errors } = harness();
  acceptor.sick = ["The disk is nearly full."];
  for (const path of ["/v1/messages", "/messages"]) {
    const answer = await call(path, { json: path === "/messages" ? { message: MESSAGE } : MESSAGE });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers.get("retry-after"), "30");
    assert.match(answer.json.detail, /disk is nearly full/);
  }
  acceptor.sick = [];
  acceptor.failures = () => new Unavailable("The store does not answer.");
  assert.equal((await call("/v1/messages", { json: MESSAGE })).status, 503);
  acceptor.failures = () => new Error("secret detail");
  const internal = await call("/v1/messages", { json: MESSAGE });
  assert.equal(internal.status, 500);
  assert.doesNotMatch(internal.text, /secret|at .*\.ts/);
  assert.match(errors[0]!, /secret detail/);
  assert.equal(acceptor.aborted.length, 2);
});

Deno.test("no JSON at all makes an internal error", async () => {
  const { call, errors } = harness();
  const key = fc.constantFrom(
    "from",
    "to",
    "cc",
    "text",
    "html",
    "raw",
    "headers",
    "attachments",
    "subject",
    "message",
    "data",
  );
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom("a@example.com", "Subject: x\n\ny", { email: "a@b.example" }),
  );
  await fc.assert(
    fc.asyncProperty(fc.dictionary(key, value), fc.boolean(), async (json, epoxi) => {
      const { status } = await call(epoxi ? "/messages" : "/v1/messages", {
        json: epoxi ? { message: json } : json,
      });
      assert.ok(status === 202 || (status >= 400 && status < 500), String(status));
    }),
    { numRuns: 500 },
  );
  assert.deepEqual(errors, []);
});

Deno.test("Epoxi: one email for each recipient, with its own data", async () => {
  const { call, acceptor } = harness();
  const { status, json } = await call("/messages", {
    json: {
      message: {
        from: "Shop <shop@example.com>",
        to: ["Ann <ann@example.net>", "bob@example.org", "carol@example.net"],
        cc: ["audit@example.com"],
        subject: "Hi {{name}}",
        text: "Dear {{name}}",
        html: "<p>Dear {{name}}</p>",
        headers: { "X-Customer": "{{id}}" },
        reply_to: "help@example.com",
        data: {
          "ann@example.net": { name: "Ann <3", id: 1 },
          "bob@EXAMPLE.org": { name: "Bob", id: 2 },
          "audit@example.com": { name: "Audit", id: 3 },
        },
      },
      ip_pool: "default",
    },
  });
  assert.equal(status, 202);
  assert.equal(json.total, 4);
  assert.equal(json.successful, 3);
  assert.equal(json.failed, 1);
  assert.equal(json.pipelines, 3);
  assert.deepEqual(json.errors, [{ path: "carol@example.net", message: "variable {{name}} has no value" }]);
  const ann = await simpleParser(textOf(
    acceptor.accepted.find(({ recipients }) => {
      return recipients[0]!.address === "ann@example.net";
    })!.content,
  ));
  assert.equal(ann.subject, "Hi Ann <3");
  assert.equal(ann.text?.trim(), "Dear Ann <3");
  assert.equal(ann.html, "<p>Dear Ann &lt;3</p>");
  assert.equal(ann.headers.get("x-customer"), "1");
  assert.ok(acceptor.accepted.every(({ recipients }) => recipients.length === 1));
});

Deno.test("Epoxi: a message as JSON text, without data taken as it is", async () => {
  const { call, acceptor } = harness();
  const text = JSON.stringify({
    ...MESSAGE,
    to: ["bob@example.net", "bob@example.net"],
    text: "{{literally}}",
  });
  const { status, json } = await call("/messages", { json: { message: text } });
  assert.equal(status, 202);
  assert.deepEqual([json.total, json.successful, json.pipelines], [1, 1, 1]);
  assert.match(textOf(acceptor.accepted[0]!.content), /\{\{literally\}\}/);
});

Deno.test("Epoxi: bad input is refused with its reason, and a value can't break out of a header", async () => {
  const { call, acceptor } = harness({ pools: ["default", "bulk"] });
  const cases: [unknown, number, RegExp][] = [
    [{}, 400, /message/],
    [{ message: "{" }, 400, /not JSON/],
    [{ message: { to: ["a@example.com"] } }, 400, /from/],
    [{ message: { ...MESSAGE, status: "delivered" } }, 400, /status/],
    [{ message: { ...MESSAGE, text: "{{oops", data: {} } }, 422, /not closed/],
    [{ message: { ...MESSAGE, text: "<%= System.halt %>{{1+1}}", data: {} } }, 422, /no variable/],
    [{ message: MESSAGE, ip_pool: "nowhere" }, 422, /no pool "nowhere"/],
    [{ message: { ...MESSAGE, data: { nobody: {} } } }, 422, /no address/],
    [
      {
        message: {
          ...MESSAGE,
          subject: "{{x}}",
          data: { "bob@example.net": { x: "a\r\nBcc: y@example.com" } },
        },
      },
      422,
      /.*/,
    ],
  ];
  for (const [json, status, reason] of cases) {
    const answer = await call("/messages", { json });
    assert.equal(answer.status, status, JSON.stringify(json));
    assert.match(`${answer.json.detail} ${JSON.stringify(answer.json.errors)}`.replaceAll("\\", ""), reason);
  }
  assert.deepEqual(acceptor.accepted, []);
  assert.equal((await call("/messages", { json: { message: MESSAGE, ip_pool: "bulk" } })).status, 202);
});

Deno.test("Epoxi: 1,000 recipients in one request; what fails does not stop the rest", async () => {
  const { call, acceptor } = harness();
  acceptor.failures = (message) =>
    message.recipients[0]!.address.startsWith("user7@") ? new Unavailable("Try again.") : undefined;
  const to = Array.from({ length: 1000 }, (_, i) => `user${i}@d${i % 10}.example`);
  const data = Object.fromEntries(to.map((address, i) => [address, { n: i }]));
  const { status, json } = await call("/messages", {
    json: { message: { ...MESSAGE, to, text: "No {{n}}.", data } },
  });
  assert.equal(status, 202);
  assert.deepEqual([json.total, json.successful, json.failed, json.pipelines], [1000, 999, 1, 10]);
  assert.deepEqual(json.errors, [{ path: "user7@d7.example", message: "Try again." }]);
  assert.equal(new Set(acceptor.accepted.map(({ recipients }) => recipients[0]!.address)).size, 999);
  for (const { recipients, content } of acceptor.accepted) {
    assert.match(textOf(content), new RegExp(`No ${recipients[0]!.address.slice(4).split("@")[0]}\\.`));
  }
});
