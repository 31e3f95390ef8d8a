import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { type ParsedMail, simpleParser } from "mailparser";
import { parseHeader } from "../../src/message/header.ts";
import { renderReport, type Report, type ReportedRecipient } from "../../src/message/report.ts";

const RECIPIENT: ReportedRecipient = {
  address: "bob@example.net",
  orcpt: "rfc822;Bob@Example.NET",
  status: "5.1.1",
  diagnostic: "550 5.1.1 <bob@example.net>: no such user",
  diagnosticIsSmtp: true,
  remoteMta: "mx1.example.net",
  lastAttempt: Date.UTC(2026, 10, 24, 10, 0, 5),
};

const REPORT: Report = {
  of: "01ABC",
  action: "failed",
  envid: "QQ314159",
  arrivalDate: Date.UTC(2026, 10, 24, 9, 24, 23),
  returnContent: "HDRS",
  originalSmtpUtf8: false,
  originalBody: "7BIT",
  header: "From: ann@example.com\r\nMessage-ID: <one@example.com>\r\nSubject: Hello\r\n",
  recipients: [RECIPIENT],
};

const CONTEXT = {
  hostname: "mx.example.org",
  from: "ann@example.com",
  date: Date.UTC(2026, 10, 24, 10, 0, 6),
  queueId: "02DEF",
};

const ORIGINAL = new TextEncoder().encode("Subject: Hello\r\n\r\nHi Bob\r\n");

function render(changes: Partial<Report> = {}, context: Partial<typeof CONTEXT> = {}, original = ORIGINAL) {
  const report = renderReport({ ...REPORT, ...changes }, { ...CONTEXT, ...context });
  const pieces = [report.head, ...(report.includesOriginal ? [original] : []), report.tail];
  return { ...report, bytes: Buffer.concat(pieces) };
}

function parse(bytes: Uint8Array): Promise<ParsedMail> {
  return simpleParser(Buffer.from(bytes), { keepDeliveryStatus: true });
}

function attachment(mail: ParsedMail, type: string): string {
  const found = mail.attachments.find(({ contentType }) => contentType === type);
  assert.ok(found, `${type} among ${mail.attachments.map(({ contentType }) => contentType).join(", ")}`);
  return found.content.toString();
}

/** Groups of fields of a delivery-status part. */
function groups(status: string): Record<string, string>[] {
  return status.trim().split(/\r?\n\r?\n/).map((group) =>
    Object.fromEntries(parseHeader(group).map(({ name, value }) => [name, value]))
  );
}

function assertWireSafe(bytes: Uint8Array): void {
  const text = Buffer.from(bytes).toString("latin1");
  assert.doesNotMatch(text, /\r(?!\n)|(?<!\r)\n|\0/);
  for (const line of text.split("\r\n")) assert.ok(line.length <= 998, line.slice(0, 80));
}

Deno.test("a failure report is multipart/report with every field of RFC 3464", async () => {
  const { bytes, body, smtpUtf8, includesOriginal } = render();
  assert.deepEqual({ body, smtpUtf8, includesOriginal }, {
    body: "7BIT",
    smtpUtf8: false,
    includesOriginal: false,
  });
  const mail = await parse(bytes);
  const type = mail.headers.get("content-type") as { value: string; params: Record<string, string> };
  assert.equal(type.value, "multipart/report");
  assert.equal(type.params["report-type"], "delivery-status");
  assert.equal(mail.from?.value[0]?.address, "MAILER-DAEMON@mx.example.org");
  assert.equal(mail.from?.value[0]?.name, "Mail Delivery System");
  assert.equal(mail.headers.get("auto-submitted"), "auto-replied");
  assert.equal(mail.inReplyTo, "<one@example.com>");
  assert.equal(mail.date?.getTime(), CONTEXT.date);
  assert.match(mail.text ?? "", /could not be delivered/);
  assert.match(
    mail.text ?? "",
    /<bob@example\.net>\n {4}The mail system mx1\.example\.net answered: 550 5\.1\.1/,
  );
  assert.deepEqual(groups(attachment(mail, "message/delivery-status")), [{
    "Reporting-MTA": "dns; mx.example.org",
    "Original-Envelope-Id": "QQ314159",
    "Arrival-Date": "Tue, 24 Nov 2026 09:24:23 +0000",
  }, {
    "Original-Recipient": "rfc822; Bob@Example.NET",
    "Final-Recipient": "rfc822; bob@example.net",
    Action: "failed",
    Status: "5.1.1",
    "Remote-MTA": "dns; mx1.example.net",
    "Diagnostic-Code": "smtp; 550 5.1.1 <bob@example.net>: no such user",
    "Last-Attempt-Date": "Tue, 24 Nov 2026 10:00:05 +0000",
  }]);
  assert.match(attachment(mail, "text/rfc822-headers"), /^From: ann@example\.com\r?\nMessage-ID/);
  assertWireSafe(bytes);
});

Deno.test("FULL returns the whole message byte for byte, and passes on what it needs", async () => {
  const original = Buffer.from("Subject: Caf\u00e9\r\n\r\n.dots\r\n\r\nno line end", "utf8");
  const { bytes, body, includesOriginal, smtpUtf8 } = render(
    { returnContent: "FULL", originalBody: "8BITMIME" },
    {},
    original,
  );
  assert.deepEqual([body, includesOriginal, smtpUtf8], ["8BITMIME", true, false]);
  const text = bytes.toString("latin1");
  const from = text.indexOf(original.toString("latin1"));
  assert.ok(from > 0);
  const boundary = /boundary="([^"]+)"/.exec(text)![1];
  assert.equal(text.slice(from + original.length), `\r\n--${boundary}--\r\n`);
  assert.match(
    text.slice(0, from),
    /Content-Type: message\/rfc822\r\n[^\0]*Content-Transfer-Encoding: 8bit\r\n\r\n$/,
  );
  const mail = await parse(bytes);
  assert.ok(mail.attachments.some(({ contentType }) => contentType === "message/rfc822"));
  assert.equal(render({ returnContent: "FULL", originalBody: "BINARYMIME" }).body, "BINARYMIME");
});

Deno.test("an internationalized message gets the types of RFC 6533, and stays sendable over 7bit", async () => {
  const header = Buffer.from("From: ann@example.com\r\nSubject: Grüße\r\n").toString("latin1");
  const recipients = [{
    ...RECIPIENT,
    address: "bj\u00f8rn@example.net",
    orcpt: "utf-8;bj\u00f8rn@example.net",
  }];
  const { bytes, body, smtpUtf8 } = render({ recipients, header, originalSmtpUtf8: true });
  assert.deepEqual([body, smtpUtf8], ["7BIT", false]);
  assert.ok(bytes.every((byte) => byte < 128));
  const mail = await parse(bytes);
  const status = groups(attachment(mail, "message/global-delivery-status"));
  assert.equal(status[1]!["Final-Recipient"], "utf-8; bj\u00f8rn@example.net");
  assert.equal(status[1]!["Original-Recipient"], "utf-8; bj\u00f8rn@example.net");
  assert.match(attachment(mail, "message/global-headers"), /Subject: Grüße/);
  assert.match(mail.text ?? "", /<bjørn@example\.net>/);
  const full = render({ recipients, originalSmtpUtf8: true, returnContent: "FULL" });
  assert.equal(full.body, "8BITMIME");
  assert.match(full.bytes.toString(), /Content-Type: message\/global\r\n/);
  const sender = render({}, { from: "\u00e5sa@example.com" });
  assert.deepEqual([sender.smtpUtf8, sender.body], [true, "8BITMIME"]);
});

Deno.test("a delay report says until when, a success report names no failure", async () => {
  const until = Date.UTC(2026, 10, 28, 9, 24, 23);
  const delayed = await parse(render({ action: "delayed", willRetryUntil: until }).bytes);
  const fields = groups(attachment(delayed, "message/delivery-status"))[1]!;
  assert.equal(fields["Will-Retry-Until"], "Sat, 28 Nov 2026 09:24:23 +0000");
  assert.equal(fields["Action"], "delayed");
  assert.match(delayed.text ?? "", /need not send it again/);
  assert.match(delayed.subject ?? "", /^Delayed mail/);
  for (const action of ["delivered", "relayed"] as const) {
    const mail = await parse(render({ action, willRetryUntil: until }).bytes);
    const status = groups(attachment(mail, "message/delivery-status"))[1]!;
    assert.equal(status["Action"], action);
    assert.ok(!("Will-Retry-Until" in status));
    assert.doesNotMatch(mail.text ?? "", /could not/);
  }
});

Deno.test("one report tells of all recipients, each in a group of its own", async () => {
  const recipients = Array.from(
    { length: 100 },
    (_, i) => ({ ...RECIPIENT, address: `user${i}@example.net` }),
  );
  const mail = await parse(render({ recipients }).bytes);
  const status = groups(attachment(mail, "message/delivery-status"));
  assert.equal(status.length, 101);
  assert.equal(status[100]!["Final-Recipient"], "rfc822; user99@example.net");
});

Deno.test("a local diagnosis is not called SMTP; a status that is none becomes one of its class", async () => {
  const { remoteMta: _, ...local } = RECIPIENT;
  const recipients = [{
    ...local,
    diagnosticIsSmtp: false,
    diagnostic: "no such mailbox",
    status: "nonsense",
  }];
  const status = groups(
    attachment(await parse(render({ recipients }).bytes), "message/delivery-status"),
  )[1]!;
  assert.equal(status["Diagnostic-Code"], "X-Epoxi; no such mailbox");
  assert.equal(status["Status"], "5.0.0");
  assert.ok(!("Remote-MTA" in status));
});

Deno.test("nothing a remote or sender says can add a field, a part or a line that is too long", async () => {
  const hostile = fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.constantFrom(
      "\r\nBcc: x@example.com\r\n\r\n",
      "\n\n--=_02DEF.1.dsn--\n",
      "x".repeat(5000),
      "\u0085\u2028a: b",
    ),
  );
  await fc.assert(
    fc.asyncProperty(hostile, hostile, hostile, hostile, async (diagnostic, remoteMta, orcpt, header) => {
      const recipients = [{ ...RECIPIENT, diagnostic, remoteMta, orcpt }];
      const bytesOnly = Buffer.from(header).toString("latin1");
      const { bytes } = render({ recipients, envid: diagnostic, header: bytesOnly });
      assertWireSafe(bytes);
      const mail = await parse(bytes);
      assert.equal(mail.bcc, undefined);
      const type = /utf-8;/.test(bytes.toString()) && !mail.attachments.some((each) =>
          each.contentType === "message/delivery-status"
        )
        ? "message/global-delivery-status"
        : "message/delivery-status";
      const [message, recipient, ...rest] = groups(attachment(mail, type));
      assert.deepEqual(rest, []);
      assert.equal(message!["Reporting-MTA"], "dns; mx.example.org");
      assert.equal(recipient!["Action"], "failed");
      assert.ok(!("Bcc" in message!) && !("Bcc" in recipient!));
    }),
    { numRuns: 200 },
  );
});
