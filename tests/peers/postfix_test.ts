/** Postfix and its test programs before and behind the server. */
import assert from "node:assert/strict";
import { EpoxiProcess, findProgram, freePort, peerTest, run } from "../support/epoxi.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";
import { noPostfix, Postfix, POSTFIX_PROGRAMS } from "../support/postfix.ts";
import { recordingSink } from "../support/recorded.ts";
import { until } from "../support/until.ts";

const MESSAGES = 500;

async function smtpSource(port: number, args: readonly string[]): Promise<void> {
  const addresses = ["-M", "load.epoxi.test", "-f", "load@epoxi.test", "-t", "sink@sink.test"];
  const { code, stderr } = await run([
    findProgram("smtp-source")!,
    ...args,
    ...addresses,
    `127.0.0.1:${port}`,
  ]);
  assert.equal(code, 0, stderr);
}

/** smtp-sink with its running counter. */
class SmtpSink implements AsyncDisposable {
  readonly port = freePort();
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #said = "";

  constructor() {
    // As root it wants to know whom to become.
    const user = Deno.uid() === 0 ? ["-u", "nobody"] : [];
    this.#child = new Deno.Command(findProgram("smtp-sink")!, {
      args: [...user, "-c", `127.0.0.1:${this.port}`, "1000"],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reading = this.#read();
  }

  /** Messages received, as it says itself. */
  get messages(): number {
    return Number(this.#said.match(/mesg=(\d+)/g)?.at(-1)?.slice(5) ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
    await this.#reading;
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#said = (this.#said + text).slice(-1000);
    }
  }
}

for (const [name, keep] of [["one connection for many", ["-d"]], ["a connection for each", []]] as const) {
  peerTest(
    `smtp-source → epoxi → smtp-sink, ${name}: all messages arrive`,
    ["smtp-source", "smtp-sink"],
    async () => {
      await using sink = new SmtpSink();
      await using epoxi = await EpoxiProcess.start({ env: { EPOXI_ROUTES: `*=127.0.0.1:${sink.port}` } });
      await smtpSource(epoxi.smtpPort, [...keep, "-s", "20", "-m", `${MESSAGES}`, "-r", "3", "-l", "4096"]);
      await until("messages at smtp-sink", () => sink.messages >= MESSAGES, undefined, 30_000);
      await until("an empty queue", async () => {
        return (await epoxi.get<{ messages: number }>("/v1/queue")).messages === 0;
      });
      assert.equal(sink.messages, MESSAGES);
    },
  );
}

peerTest("Postfix → epoxi → sink: all messages arrive", ["smtp-source", ...POSTFIX_PROGRAMS], async () => {
  const { sink, messages } = recordingSink();
  await using _sink = sink;
  await using epoxi = await EpoxiProcess.start({ env: { EPOXI_ROUTES: `*=127.0.0.1:${sink.address.port}` } });
  await using postfix = await Postfix.start({ settings: { relayhost: `[127.0.0.1]:${epoxi.smtpPort}` } });
  await smtpSource(postfix.port, ["-s", "10", "-m", "100", "-l", "4096", "-S", "through both"]);
  await until("messages at the sink", () => messages.length >= 100, undefined, 30_000);
  assert.equal(messages.length, 100);
  for (const { from, to, content } of messages) {
    assert.equal(from, "load@epoxi.test");
    assert.deepEqual(to, ["sink@sink.test"]);
    assert.match(content, /^Received: from postfix\.epoxi\.test /);
    assert.match(content, /^Received: from load\.epoxi\.test /m);
  }
}, noPostfix());

peerTest("epoxi → Postfix: DSN parameters reach it, and it answers for them", POSTFIX_PROGRAMS, async () => {
  const { sink, messages } = recordingSink();
  await using _sink = sink;
  await using postfix = await Postfix.start({
    settings: {
      relayhost: `[127.0.0.1]:${sink.address.port}`,
      transport_maps: "inline:{{final.test = discard:}}",
      smtpd_recipient_restrictions:
        "check_recipient_access inline:{{nobody@final.test = 550 5.1.1 No such user}}, permit_mynetworks, reject",
    },
  });
  await using epoxi = await EpoxiProcess.start({
    env: { EPOXI_ROUTES: `final.test=127.0.0.1:${postfix.port},*=127.0.0.1:${sink.address.port}` },
  });
  const client = await LoadConnection.open(epoxi.smtpPort);
  await client.send(
    "sender@epoxi.test",
    ["someone@final.test", "nobody@final.test"],
    loadMessage("dsn", 2000),
    { mail: "RET=HDRS ENVID=order+2B17", rcpt: "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+40final.test" },
  );
  client.close();
  const reports = () => messages.filter(({ to }) => to.includes("sender@epoxi.test"));
  await until("both reports", () => reports().length >= 2);
  const success = reports().find(({ content }) => /^Action: (delivered|relayed)/m.test(content));
  assert.ok(success, "no report of success");
  // Postfix took the duty over: the report of success is its own, with what it was told through us.
  assert.match(success.content, /^Reporting-MTA: dns; postfix\.epoxi\.test/m);
  assert.match(success.content, /^Original-Envelope-Id: order\+17/m);
  assert.match(success.content, /^Original-Recipient: rfc822; ?first@final\.test/m);
  const failure = reports().find(({ content }) => /^Action: failed/m.test(content));
  assert.ok(failure, "no report of failure");
  assert.equal(failure.from, "");
  assert.match(failure.content, /^Reporting-MTA: dns; ?mta\.epoxi\.test/m);
  assert.match(failure.content, /^Original-Envelope-Id: order\+17/m);
  assert.match(failure.content, /^Final-Recipient: rfc822; ?nobody@final\.test/m);
  assert.match(failure.content, /^Status: 5\.1\.1/m);
  assert.match(failure.content, /^Diagnostic-Code: smtp; ?550 5\.1\.1/m);
  assert.equal(reports().length, 2);
}, noPostfix());
