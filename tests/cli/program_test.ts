import assert from "node:assert/strict";
import { simpleParser } from "mailparser";
import { type CliDeps, runProgram } from "../../src/cli/program.ts";
import type { SubmitMail, SubmitTarget } from "../../src/cli/deps.ts";

interface Fakes {
  readonly variables?: Record<string, string>;
  readonly files?: Record<string, string>;
  readonly input?: string;
  readonly fetch?: (url: string, init: RequestInit) => Response | Promise<Response>;
  /** Reply to each recipient of each message. */
  readonly answer?: (recipient: string) => string;
  readonly serve?: CliDeps["serve"];
}

/** Runs one command line against fakes and keeps what it did. */
async function epoxi(args: string[], fakes: Fakes = {}) {
  let out = "";
  let err = "";
  const targets: SubmitTarget[] = [];
  const mails: SubmitMail[] = [];
  const asked: { method: string; url: string; headers: Record<string, string> }[] = [];
  const readFile = (path: string) => {
    const text = fakes.files?.[path];
    if (text === undefined) throw new Error(`No such file: ${path}`);
    return text;
  };
  const code = await runProgram({
    version: "1.2.3",
    environment: {
      read: (name) => fakes.variables?.[name],
      names: () => Object.keys(fakes.variables ?? {}),
      readFile,
      hostname: "box.example.com",
      terminal: false,
    },
    serve: fakes.serve ?? (() => Promise.resolve(0)),
    connect(target) {
      if (target.port === 1) return Promise.reject(new Error("connection refused"));
      targets.push(target);
      return Promise.resolve({
        send(mail) {
          mails.push(mail);
          return Promise.resolve(mail.recipients.map((recipient) => {
            const reply = fakes.answer?.(recipient) ?? "250 2.0.0 Ok";
            return { recipient, accepted: reply.startsWith("2"), reply };
          }));
        },
        quit: () => Promise.resolve(),
      });
    },
    fetch: async (url, init) => {
      const headers = Object.fromEntries(new Headers(init?.headers));
      asked.push({ method: init?.method ?? "GET", url: String(url), headers });
      return await fakes.fetch!(String(url), init ?? {});
    },
    write: (text) => void (out += text),
    writeError: (text) => void (err += text),
    readInput: () => Promise.resolve(new TextEncoder().encode(fakes.input ?? "")),
    readFile: (path) => Promise.resolve().then(() => new TextEncoder().encode(readFile(path))),
    interrupted: () => AbortSignal.abort(),
  }, args);
  return { code, out, err, targets, mails, asked };
}

const json = (value: unknown, status = 200) => Response.json(value, { status });

Deno.test("help says how to begin, and every command has examples", async () => {
  const help = await epoxi(["--help"]);
  assert.equal(help.code, 0);
  assert.match(help.out, /epoxi dev /);
  for (
    const command of [
      ["serve"],
      ["dev"],
      ["send"],
      ["sink"],
      ["find"],
      ["health"],
      ["queue", "list"],
      ["queue", "show"],
      ["queue", "retry"],
      ["queue", "hold"],
      ["queue", "release"],
      ["queue", "delete"],
      ["config", "check"],
    ]
  ) {
    const { code, out } = await epoxi([...command, "--help"]);
    assert.equal(code, 0, command.join(" "));
    assert.match(out, new RegExp(`Example[^]*epoxi ${command.join(" ")}`), command.join(" "));
  }
});

Deno.test("--version prints the version alone", async () => {
  assert.deepEqual((({ code, out }) => ({ code, out }))(await epoxi(["--version"])), {
    code: 0,
    out: "1.2.3\n",
  });
});

Deno.test("wrong usage ends with 2, says what was expected, and shows no stack trace", async () => {
  for (
    const [args, said] of [
      [["sned"], /unknown command 'sned'[^]*Did you mean send/],
      [["send"], /required option '-t, --to/],
      [["send", "--to", "nobody"], /--to "nobody" is no address/],
      [["send", "--to", "a@b.test", "--server", "here"], /--server[^]*expected/],
      [["send", "--to", "a@b.test", "--tls", "maybe"], /Allowed choices are never, opportunistic/],
      [["send", "--to", "a@b.test", "--count", "0"], /expected a whole number from 1/],
      [["send", "--to", "a@b.test", "--header", "Nonsense"], /expected "Name: value"/],
      [["send", "--to", "a@b.test", "--header", "From: x@y.test"], /is set from the other parts/],
      [["send", "--to", "a@b.test", "--file", "x", "--subject", "y"], /--subject can't be given with it/],
      [["sink", "--reply", "x=1"], /--reply x=1: expected/],
      [["sink", "--tls", "cert.pem"], /expected two files, cert,key/],
      [["queue", "retry"], /name ids, or give/],
      [["queue", "hold", "abc", "--all"], /not both/],
      [["queue", "delete", "--all"], /needs --yes/],
      [["queue", "list", "--status", "gone"], /Allowed choices are queued/],
      [["queue", "list", "--limit", "x"], /expected a whole number/],
    ] as const
  ) {
    const { code, out, err } = await epoxi([...args]);
    assert.equal(code, 2, `${args.join(" ")}: ${err}`);
    assert.match(err, said);
    assert.doesNotMatch(out + err, /^\s+at .*\.ts/m);
  }
});

Deno.test("serve and dev run the server and end with its exit code", async () => {
  const modes: string[] = [];
  const serve: CliDeps["serve"] = (mode) => {
    modes.push(mode);
    return Promise.resolve(mode === "dev" ? 0 : 1);
  };
  assert.equal((await epoxi(["dev"], { serve })).code, 0);
  assert.equal((await epoxi(["serve"], { serve })).code, 1);
  assert.deepEqual(modes, ["dev", "serve"]);
});

Deno.test("a server that can't start is told in a sentence", async () => {
  const serve = () => Promise.reject(new Error("127.0.0.1:2525: another program listens there"));
  const { code, err } = await epoxi(["serve"], { serve });
  assert.equal(code, 1);
  assert.equal(err, "epoxi: 127.0.0.1:2525: another program listens there\n");
});

Deno.test("send composes a message and prints each recipient's answer", async () => {
  const { code, out, err, mails, targets } = await epoxi([
    ...["send", "--server", "mx.test:26", "--from", "Me <me@a.test>", "--to", "b@b.test", "--to", "c@c.test"],
    ...["--subject", "Grüße", "--body", "-", "--header", "X-Test: yes", "--attach", "dir/note.txt"],
  ], {
    input: "from stdin\n",
    files: { "dir/note.txt": "attached" },
    answer: (recipient) => recipient === "c@c.test" ? "550 5.1.1 No such user" : "250 2.0.0 queued as 1",
  });
  assert.equal(code, 1);
  assert.equal(out, "b@b.test: 250 2.0.0 queued as 1\n");
  assert.equal(err, "c@c.test: 550 5.1.1 No such user\nepoxi: 1 of 2 recipients refused\n");
  assert.equal(targets[0]!.host, "mx.test");
  assert.equal(targets[0]!.port, 26);
  assert.equal(targets[0]!.tls, "opportunistic");
  const [mail] = mails;
  assert.equal(mail!.reversePath, "me@a.test");
  assert.deepEqual(mail!.recipients, ["b@b.test", "c@c.test"]);
  const parsed = await simpleParser(new TextDecoder().decode(mail!.content));
  assert.equal(parsed.subject, "Grüße");
  assert.equal(parsed.text, "from stdin\n");
  assert.equal(parsed.headers.get("x-test"), "yes");
  assert.equal(parsed.attachments[0]!.filename, "note.txt");
  assert.equal(parsed.attachments[0]!.content.toString(), "attached");
});

Deno.test("send passes a raw message on with CRLF line ends and says what it needs", async () => {
  const { code, mails } = await epoxi(["send", "--from", "<>", "--to", "b@b.test", "--file", "raw.eml"], {
    files: { "raw.eml": "Subject: ü\n\none\r\ntwo\rthree" },
  });
  assert.equal(code, 0);
  assert.equal(mails[0]!.reversePath, "");
  assert.equal(new TextDecoder().decode(mails[0]!.content), "Subject: ü\r\n\r\none\r\ntwo\r\nthree");
  assert.equal(mails[0]!.smtpUtf8, true);
  assert.equal(mails[0]!.eightBit, true);
});

Deno.test("send reads credentials from a file, and never prints them", async () => {
  const files = { login: "user:pass:word\n", bad: "nothing" };
  const sent = await epoxi(["send", "--to", "b@b.test", "--auth-file", "login"], { files });
  assert.deepEqual(sent.targets[0]!.auth, { user: "user", password: "pass:word" });
  assert.doesNotMatch(sent.out + sent.err, /pass:word/);
  const bad = await epoxi(["send", "--to", "b@b.test", "--auth-file", "bad"], { files });
  assert.equal(bad.code, 1);
  assert.match(bad.err, /--auth-file bad: expected user:password/);
  assert.match(
    (await epoxi(["send", "--to", "b@b.test", "--auth-file", "none"], { files })).err,
    /cannot be read/,
  );
});

Deno.test("send --count gives each message its own Message-ID and sums up", async () => {
  const { code, out, mails, targets } = await epoxi([
    ...["send", "--to", "b@b.test", "--count", "50", "--concurrency", "5"],
  ]);
  assert.equal(code, 0);
  assert.match(
    out,
    /^50 of 50 messages accepted in [\d.]+ s: \d+\/s, latency p50 [\d.]+ ms, p99 [\d.]+ ms\n$/,
  );
  const ids = mails.map(({ content }) => /^Message-ID: (.*)$/mi.exec(new TextDecoder().decode(content))![1]);
  assert.equal(new Set(ids).size, 50);
  assert.equal(targets.length, 5);
});

Deno.test("send --count counts failures by their reason, and stops where nobody listens", async () => {
  let n = 0;
  const some = await epoxi(["send", "--to", "b@b.test", "--count", "10"], {
    answer: () => ++n % 5 === 0 ? "451 4.3.0 Later" : "250 Ok",
  });
  assert.equal(some.code, 1);
  assert.match(some.err, /^2 × 451 4\.3\.0 Later\nepoxi: 2 of 10 messages not accepted\n$/);
  const none = await epoxi(["send", "--to", "b@b.test", "--server", "127.0.0.1:1", "--count", "1000000"]);
  assert.equal(none.code, 1);
  assert.match(
    none.err,
    /^3 × 127\.0\.0\.1:1: connection refused\nepoxi: 1000000 of 1000000 messages not accepted\n$/,
  );
});

Deno.test("send tells a failed connection in a sentence", async () => {
  const { code, err } = await epoxi(["send", "--to", "b@b.test", "--server", "127.0.0.1:1"]);
  assert.equal(code, 1);
  assert.equal(err, "epoxi: 127.0.0.1:1: connection refused\n");
});

const found = {
  id: "q1",
  from: "",
  to: ["a@b.test", "\x1b[2Jx@b.test"],
  status: "deferred",
  receivedAt: "2026-01-01T00:00:00Z",
};

Deno.test("queue list prints a table without control characters, and the way to the next page", async () => {
  const { code, out, asked } = await epoxi(
    ["queue", "list", "--domain", "b.test", "--limit", "1", "--api", "http://h:1/"],
    { fetch: () => json({ messages: [found], cursor: "next" }) },
  );
  assert.equal(code, 0);
  assert.equal(asked[0]!.url, "http://h:1/v1/messages?limit=1&domain=b.test");
  assert.match(
    out,
    /^ID\s+AGE\s+STATUS\s+FROM\s+TO\nq1\s+\d+d\s+deferred\s+<>\s+a@b\.test, \?\[2Jx@b\.test\n/,
  );
  assert.match(out, /--cursor next\n$/);
});

Deno.test("queue list --by-domain and --json print what the API answers", async () => {
  const view = {
    messages: 3,
    recipients: 4,
    scheduled: 2,
    ready: 1,
    inFlight: 1,
    held: 0,
    deadLetters: 5,
    oldest: null,
    domains: [
      { domain: "b.test", scheduled: 2, ready: 1, inFlight: 1, held: 0, oldest: null, lastReply: "450 busy" },
    ],
  };
  const table = await epoxi(["queue", "list", "--by-domain"], { fetch: () => json(view) });
  assert.match(table.out, /^3 messages for 4 recipients wait: 2 scheduled[^\n]*5 dead letters/);
  assert.match(table.out, /b\.test +2 +1 +1 +0 +- +450 busy\n$/);
  const asJson = await epoxi(["queue", "list", "--by-domain", "--json"], { fetch: () => json(view) });
  assert.deepEqual(JSON.parse(asJson.out), view);
});

Deno.test("queue show tells every attempt", async () => {
  const attempt = {
    at: "2026-01-01T00:00:01Z",
    mx: "mx.b.test",
    reply: "450 busy\r\nforged",
    status: "deferred",
  };
  const { out } = await epoxi(["queue", "show", "q/1"], {
    fetch: () =>
      json({
        ...found,
        size: 10,
        protocol: "ESMTP",
        recipients: [{ address: "a@b.test", status: "deferred", attempts: [attempt], queue: "b.test" }],
        orders: [{ at: "2026-01-01T00:00:02Z", type: "held", by: "ops", to: ["a@b.test"] }],
      }),
  });
  assert.match(out, /From: +<> \(null reverse-path\)\n/);
  assert.match(out, /2026-01-01T00:00:01Z {2}deferred {3}mx\.b\.test: 450 busy\?\?forged\n/);
  assert.match(out, /held by ops: a@b\.test\n$/);
});

Deno.test("orders go to each id; one that is not in the queue is a failure", async () => {
  const { code, out, err, asked } = await epoxi(["queue", "delete", "q1", "q2"], {
    fetch: (url) =>
      url.endsWith("q1") ? json({ id: "q1", result: "applied" }) : json({ title: "Not Found" }, 404),
  });
  assert.equal(code, 1);
  assert.equal(out, "q1: deleted\nq2: not in the queue\n");
  assert.equal(err, "epoxi: 1 of 2 not in the queue\n");
  assert.deepEqual(asked.map(({ method, url }) => `${method} ${new URL(url).pathname}`), [
    "DELETE /v1/messages/q1",
    "DELETE /v1/messages/q2",
  ]);
});

Deno.test("orders go to all that match, page by page", async () => {
  const { code, out, asked } = await epoxi(["queue", "retry", "--status", "deferred"], {
    fetch(url) {
      if (!url.includes("/v1/messages?")) return json({ result: "accepted" }, 202);
      return json(
        url.includes("cursor=2")
          ? { messages: [{ ...found, id: "q2" }] }
          : { messages: [found], cursor: "2" },
      );
    },
  });
  assert.equal(code, 0);
  assert.equal(out, "2 messages retried\n");
  assert.deepEqual(asked.map(({ method, url }) => `${method} ${new URL(url).pathname}`), [
    "GET /v1/messages",
    "POST /v1/messages/q1/retry",
    "GET /v1/messages",
    "POST /v1/messages/q2/retry",
  ]);
});

Deno.test("find prints what it found, and fails where that is nothing", async () => {
  const some = await epoxi(["find", "a@b.test"], { fetch: () => json({ messages: [found] }) });
  assert.equal(some.code, 0);
  assert.match(some.out, /\nq1 /);
  const none = await epoxi(["find", "a@b.test"], { fetch: () => json({ messages: [] }) });
  assert.equal(none.code, 1);
  assert.equal(none.err, "epoxi: nothing found for a@b.test\n");
});

Deno.test("the token comes from a file and goes into the header", async () => {
  const fakes = { files: { token: "s3cret\n" }, fetch: () => json({ messages: [] }) };
  const { asked, out, err } = await epoxi(["queue", "list", "--token-file", "token"], fakes);
  assert.equal(asked[0]!.headers["authorization"], "Bearer s3cret");
  assert.doesNotMatch(out + err, /s3cret/);
});

Deno.test("what goes wrong with the API is told with what to do", async () => {
  for (
    const [answer, said] of [
      [
        () => json({ title: "Unauthorized", detail: "no token" }, 401),
        /401 Unauthorized: no token \(give a token/,
      ],
      [() => new Response("<html>", { status: 502 }), /502 <html>/],
      [() => new Response("pong"), /answered no JSON/],
      [
        () => Promise.reject(new TypeError("refused")),
        /no answer from http:\/\/127\.0\.0\.1:4000 \(refused\): is the/,
      ],
    ] as const
  ) {
    const { code, err } = await epoxi(["queue", "list"], { fetch: answer });
    assert.equal(code, 1);
    assert.match(err, said);
  }
  assert.match((await epoxi(["queue", "list", "--api", "here"])).err, /--api here: expected a URL/);
});

Deno.test("health asks the probe and tells why a server takes no mail", async () => {
  const good = await epoxi(["health", "--live"], { fetch: () => json({ status: "ok" }) });
  assert.deepEqual([good.code, good.out, good.asked[0]!.url], [0, "ok\n", "http://127.0.0.1:4000/livez"]);
  const full = await epoxi(["health", "--api", "http://h:1/"], {
    fetch: () => json({ reasons: ["disk full"] }, 503),
  });
  assert.equal(full.code, 1);
  assert.match(full.err, /^epoxi: http:\/\/h:1\/readyz: 503 .*disk full/);
  const gone = await epoxi(["health"], { fetch: () => Promise.reject(new TypeError("refused")) });
  assert.match(gone.err, /^epoxi: no answer from http:\/\/127\.0\.0\.1:4000\/readyz: refused\n$/);
});

Deno.test("config check prints what is in force with secrets masked, and every error at once", async () => {
  const good = await epoxi(["config", "check"], {
    variables: { EPOXI_HOSTNAME: "mx.example.com", EPOXI_SMTP_USERS: "me:topsecret" },
  });
  assert.equal(good.code, 0);
  assert.match(good.out, /^EPOXI_HOSTNAME=mx\.example\.com$/m);
  assert.doesNotMatch(good.out, /topsecret/);
  const bad = await epoxi(["config", "check"], {
    variables: { EPOXI_RETRY_SCHEDULE: "soon", EPOXI_MAX_ERORS: "3" },
  });
  assert.equal(bad.code, 1);
  assert.match(bad.err, /EPOXI_RETRY_SCHEDULE=soon/);
  assert.match(bad.err, /did you mean EPOXI_MAX_ERRORS/);
});
