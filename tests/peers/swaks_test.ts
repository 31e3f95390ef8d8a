/** swaks, a client of another make, talks to the server in every way people connect. */
import assert from "node:assert/strict";
import { EpoxiProcess, findProgram, freePort, peerTest, run } from "../support/epoxi.ts";
import { recordingSink } from "../support/recorded.ts";
import { until } from "../support/until.ts";

const LOGIN = { user: "me", password: "s3cret/+=" };

async function swaks(port: number, args: readonly string[]) {
  const addresses = ["--from", "a@epoxi.test", "--to", "b@sink.test", "--ehlo", "swaks.epoxi.test"];
  return await run([findProgram("swaks")!, "--server", `127.0.0.1:${port}`, ...addresses, ...args]);
}

/** A certificate for this test alone. */
async function makeCertificate(dir: string): Promise<{ cert: string; key: string }> {
  const [cert, key] = [`${dir}/cert.pem`, `${dir}/key.pem`];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const subject = [
    "-subj",
    "/CN=mta.epoxi.test",
    "-addext",
    "subjectAltName=DNS:mta.epoxi.test,IP:127.0.0.1",
  ];
  const { code, stderr } = await run(
    [findProgram("openssl")!, "req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert],
  );
  if (code !== 0) throw new Error(stderr);
  return { cert, key };
}

peerTest("swaks: a message in the clear arrives as it was sent", ["swaks"], async () => {
  const { sink, messages } = recordingSink();
  await using _sink = sink;
  await using epoxi = await EpoxiProcess.start({ env: { EPOXI_ROUTES: `*=127.0.0.1:${sink.address.port}` } });
  const { code, stdout } = await swaks(epoxi.smtpPort, [
    "--header",
    "Subject: by swaks",
    "--body",
    ".dot\nline\n",
  ]);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /250 2\.0\.0 .*queued as /);
  await until("message at the sink", () => messages.length === 1);
  const [{ from, to, content } = { from: "", to: [], content: "" }] = messages;
  assert.equal(from, "a@epoxi.test");
  assert.deepEqual(to, ["b@sink.test"]);
  assert.match(content, /^Received: from swaks\.epoxi\.test /);
  assert.match(content, /^Subject: by swaks\r$/m);
  assert.match(content, /\r\n\r\n\.dot\r\nline\r\n/);
});

peerTest("swaks: STARTTLS, implicit TLS, and AUTH with PLAIN and LOGIN", ["swaks", "openssl"], async () => {
  const dir = await Deno.makeTempDir({ prefix: "epoxi-tls-" });
  try {
    const { cert, key } = await makeCertificate(dir);
    const [submission, smtps] = [freePort(), freePort()];
    const { sink, messages } = recordingSink();
    await using _sink = sink;
    await using epoxi = await EpoxiProcess.start({
      env: {
        EPOXI_ROUTES: `*=127.0.0.1:${sink.address.port}`,
        EPOXI_TLS_CERT: cert,
        EPOXI_TLS_KEY: key,
        EPOXI_SUBMISSION_LISTEN: `127.0.0.1:${submission}`,
        EPOXI_SMTPS_LISTEN: `127.0.0.1:${smtps}`,
        EPOXI_SMTP_USERS: `${LOGIN.user}:${encodeURIComponent(LOGIN.password)}`,
      },
    });
    const auth = (mechanism: string, password = LOGIN.password) => {
      return ["--auth", mechanism, "--auth-user", LOGIN.user, "--auth-password", password];
    };
    const ways: [string, number, string[]][] = [
      ["STARTTLS", epoxi.smtpPort, ["--tls"]],
      ["STARTTLS and PLAIN", submission, ["--tls", ...auth("PLAIN")]],
      ["STARTTLS and LOGIN", submission, ["--tls", ...auth("LOGIN")]],
      ["implicit TLS and PLAIN", smtps, ["--tls-on-connect", ...auth("PLAIN")]],
    ];
    for (const [name, port, args] of ways) {
      const { code, stdout } = await swaks(port, args);
      assert.equal(code, 0, `${name}:\n${stdout}`);
      assert.match(stdout, /TLS started with cipher TLSv1\.[23]/, name);
    }
    await until("messages at the sink", () => messages.length === ways.length);
    const protocols = messages.map(({ content }) => /^Received:[^]*?\bwith (\w+)/.exec(content)?.[1]).sort();
    assert.deepEqual(protocols, ["ESMTPS", "ESMTPSA", "ESMTPSA", "ESMTPSA"]);

    const wrong = await swaks(submission, ["--tls", ...auth("PLAIN", "guess")]);
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.stdout, /535 5\.7\.8/);
    const nobody = await swaks(submission, ["--tls"]);
    assert.notEqual(nobody.code, 0);
    assert.match(nobody.stdout, /530 5\.7\.0/);
    assert.doesNotMatch(epoxi.output, /s3cret|guess/);
    assert.equal(messages.length, ways.length);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

peerTest("swaks: several recipients, one of them unknown", ["swaks"], async () => {
  await using epoxi = await EpoxiProcess.start({
    env: { EPOXI_LOCAL_DOMAINS: "home.test", EPOXI_MAILBOXES: "ann@home.test,bob@home.test" },
  });
  const { stdout } = await swaks(epoxi.smtpPort, ["--to", "ann@home.test,nobody@home.test,bob@home.test"]);
  assert.match(stdout, /550 5\.1\.1/);
  for (const user of ["ann", "bob"]) {
    const folder = `${epoxi.dataDir}/mail/home.test/${user}/new`;
    await until(`mail for ${user}`, () => countFiles(folder) === 1);
  }
});

function countFiles(folder: string): number {
  try {
    return [...Deno.readDirSync(folder)].length;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
