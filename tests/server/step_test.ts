import assert from "node:assert/strict";
import fc from "fast-check";
import { createRecipientRule, type Rules } from "../../src/server/rules.ts";
import { type Client, newSession, protocolOf, recipientsOf, type Session } from "../../src/server/session.ts";
import { type Step, step } from "../../src/server/step.ts";
import { type Command, CommandError, parseCommand } from "../../src/smtp/command.ts";
import { formatReply } from "../../src/smtp/reply.ts";
import { TEST_CONFIG } from "../support/smtp_server.ts";

const STRANGER: Client = { address: "192.0.2.1", loopback: false, trusted: false };

const RULES: Rules = {
  ...TEST_CONFIG,
  startTls: true,
  mechanisms: ["PLAIN"],
  available: () => true,
  recipient: createRecipientRule(TEST_CONFIG),
};

/** Takes lines one after the other; gives the last step. */
function run(session: Session, ...lines: string[]): Step {
  let last: Step = { session };
  for (const line of lines) last = step(last.session, parseCommand(line), RULES);
  return last;
}

const said = ({ reply }: Step) => reply && formatReply(reply);

Deno.test("step changes nothing it was given, and answers or acts on every command", () => {
  const line = fc.constantFrom(
    "EHLO c",
    "HELO c",
    "MAIL FROM:<>",
    "MAIL FROM:<a@b> BODY=BINARYMIME",
    "RCPT TO:<user@local.test>",
    "RCPT TO:<x@y>",
    "DATA",
    "BDAT 1",
    "RSET",
    "NOOP",
    "STARTTLS",
    "AUTH PLAIN",
    "HELP",
    "VRFY x",
    "QUIT",
  );
  fc.assert(fc.property(fc.array(line, { maxLength: 30 }), (lines) => {
    let session: Session = Object.freeze(newSession("relay", STRANGER, true));
    for (const each of lines) {
      const before = JSON.stringify(session);
      const done = step(session, parseCommand(each), RULES);
      const again = step(session, parseCommand(each), RULES);
      assert.deepEqual(done, again);
      assert.equal(JSON.stringify(session), before);
      assert.ok(done.reply || done.effect);
      if (done.session.transaction) assert.notEqual(done.session.helo, undefined);
      if (done.effect?.kind === "data") assert.ok(done.session.transaction?.recipients);
      session = Object.freeze(done.session);
    }
  }));
});

Deno.test("submission off loopback: first TLS, then a login, then mail", () => {
  const clear = run(newSession("submission", STRANGER, false), "EHLO c", "MAIL FROM:<a@b>");
  assert.equal(said(clear), "530 5.7.0 Send STARTTLS first, then log in");
  assert.equal(said(run(clear.session, "AUTH PLAIN")), "538 5.7.11 Encryption required: send STARTTLS first");
  const ehlo = run(newSession("submission", STRANGER, false), "EHLO c").reply?.lines ?? [];
  assert.ok(ehlo.includes("STARTTLS") && !ehlo.some((each) => each.startsWith("AUTH")));
  const secured = run(newSession("submission", STRANGER, true), "EHLO c", "MAIL FROM:<a@b>");
  assert.equal(said(secured), "530 5.7.0 Authentication required");
  assert.deepEqual(run(secured.session, "AUTH PLAIN AA==").effect, {
    kind: "auth",
    mechanism: "PLAIN",
    initialResponse: "AA==",
  });
  assert.match(`${said(run({ ...secured.session, user: "u" }, "MAIL FROM:<a@b>"))}`, /^250/);
});

Deno.test("commands that bring no mail are counted after the hundredth", () => {
  const greeted = run(newSession("relay", STRANGER, false), "EHLO c").session;
  const patient = run(greeted, ...Array.from({ length: 99 }, () => "NOOP"));
  assert.match(`${said(patient)}`, /^250/);
  assert.equal(patient.session.errors, 0);
  const abuse = run(patient.session, ...Array.from({ length: 20 }, () => "RSET"));
  assert.equal(said(abuse), "421 4.7.0 Too many errors, closing the connection");
  assert.deepEqual(abuse.effect, { kind: "close" });
});

Deno.test("who may send where", () => {
  const at = (config: Partial<typeof TEST_CONFIG>) => {
    const rule = createRecipientRule({ ...TEST_CONFIG, mailboxes: [], ...config });
    return (address: string, change: Partial<Session> = {}) => {
      const answer = rule({ ...newSession("relay", STRANGER, false), ...change }, address);
      return typeof answer === "string" ? answer : answer.code + " " + answer.status;
    };
  };
  const trusted = { client: { ...STRANGER, trusted: true } };
  const rule = at({ localDomains: ["first.test", "bücher.test"] });
  assert.equal(rule("anyone@FIRST.test"), "anyone@FIRST.test");
  assert.equal(rule("a@xn--bcher-kva.test"), "a@xn--bcher-kva.test");
  assert.equal(rule("a@bücher.test"), "a@bücher.test");
  assert.equal(rule("postmaster"), "postmaster@first.test");
  assert.equal(rule("a@elsewhere.example"), "550 5.7.1");
  assert.equal(rule("a@sub.first.test"), "550 5.7.1");
  assert.equal(rule('"a@first.test"@elsewhere.example'), "550 5.7.1");
  assert.equal(rule("a@elsewhere.example", { user: "u" }), "a@elsewhere.example");
  assert.equal(rule("a@elsewhere.example", trusted), "a@elsewhere.example");
  // A user may send anywhere, but not to a mailbox that is not there.
  const strict = at({ localDomains: ["first.test"], mailboxes: ["a@first.test"] });
  assert.equal(strict("b@first.test", { user: "u" }), "550 5.1.1");
  assert.equal(strict("A@first.test"), "A@first.test");
  const none = at({ localDomains: [] });
  assert.equal(none("postmaster", trusted), "550 5.1.1");
  assert.equal(at({ localDomains: [], mode: "dev" })("postmaster"), "postmaster@mx.test");
});

Deno.test("recipients keep their order, and the first RCPT of an address counts", () => {
  const { session } = run(
    newSession("relay", STRANGER, false),
    "EHLO c",
    "MAIL FROM:<a@b>",
    "RCPT TO:<user@local.test> NOTIFY=NEVER",
    "RCPT TO:<other@local.test>",
    "RCPT TO:<user@local.test>",
  );
  assert.deepEqual(recipientsOf(session.transaction?.recipients), [
    { address: "user@local.test", notify: { never: true } },
    { address: "other@local.test" },
  ]);
});

Deno.test("names of the protocol in the trace", () => {
  const session = newSession("relay", STRANGER, false);
  const transaction = { reversePath: "", parameters: {}, recipients: undefined, chunking: false };
  assert.equal(protocolOf({ ...session, tls: true }), "SMTP");
  assert.equal(protocolOf({ ...session, extended: true }), "ESMTP");
  assert.equal(protocolOf({ ...session, extended: true, user: "u" }), "ESMTPA");
  const utf8 = { ...transaction, parameters: { smtpUtf8: true as const } };
  assert.equal(
    protocolOf({ ...session, extended: true, tls: true, user: "u", transaction: utf8 }),
    "UTF8SMTPSA",
  );
});

Deno.test("every verb the parser knows has a rule and a step", () => {
  const lines = [
    "EHLO c",
    "HELO c",
    "LHLO c",
    "MAIL FROM:<>",
    "RCPT TO:<a@b>",
    "DATA",
    "BDAT 0",
    "RSET",
    "NOOP",
  ]
    .concat(["HELP", "VRFY x", "EXPN x", "QUIT", "STARTTLS", "AUTH PLAIN"]);
  for (const line of lines) {
    const command: Command = parseCommand(line);
    const done = step(newSession("relay", STRANGER, false), command, RULES);
    assert.ok(done.reply || done.effect, line);
  }
  assert.throws(() => parseCommand("XYZ"), CommandError);
});
