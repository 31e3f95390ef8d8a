import assert from "node:assert/strict";
import { join } from "node:path";
import { Maildir, safeName } from "../../src/delivery/maildir.ts";
import { makeClaim } from "../support/fake_work.ts";
import { ManualClock } from "../support/manual_clock.ts";

const CONTENT = "Subject: x\r\n\r\n.dot\r\nlast line\r\n";

async function withMaildir(
  test: (maildir: Maildir, root: string, clock: ManualClock) => Promise<void>,
  mailboxes: string[] = [],
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "epoxi-maildir-" });
  const root = join(dir, "mail");
  const clock = new ManualClock();
  try {
    const options = { root, hostname: "us/t:est", mailboxes, clock, pid: 42, random: () => 0.5 };
    await test(new Maildir(options), root, clock);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
const claim = (...recipients: string[]) => makeClaim("id", "local:us.test", { recipients, content: CONTENT });

Deno.test("a message lies in new, byte for byte under its two lines; nothing is left in tmp", () =>
  withMaildir(async (maildir, root) => {
    const [outcome] = await maildir.deliver(claim("User@US.test"));
    assert.deepEqual([outcome!.kind, outcome!.final, outcome!.fromRemote], ["delivered", true, false]);
    const folder = join(root, "us.test", "user");
    assert.deepEqual(names(folder), ["cur", "new", "tmp"]);
    assert.deepEqual(names(join(folder, "tmp")), []);
    const [name] = names(join(folder, "new"));
    assert.match(name!, /^1700000000\.M0P42Q1R80000000\.us_t_est$/);
    assert.equal(
      await Deno.readTextFile(join(folder, "new", name!)),
      `Return-Path: <from@us.test>\r\nDelivered-To: User@US.test\r\n${CONTENT}`,
    );
    assert.equal((await Deno.stat(join(folder, "new", name!))).mode! & 0o777, 0o600);
  }));

Deno.test("the null reverse-path, and several recipients each with a copy of their own", () =>
  withMaildir(async (maildir, root) => {
    const mail = makeClaim("id", "local:us.test", {
      recipients: ["a@us.test", "b@us.test", "a@us.test"],
      message: { reversePath: "" },
    });
    assert.deepEqual((await maildir.deliver(mail)).map(({ kind }) => kind), Array(3).fill("delivered"));
    assert.equal(names(join(root, "us.test", "a", "new")).length, 2);
    const [name] = names(join(root, "us.test", "b", "new"));
    assert.match(await Deno.readTextFile(join(root, "us.test", "b", "new", name!)), /^Return-Path: <>\r\n/);
  }));

Deno.test("only the mailboxes that are named exist, and postmaster", () =>
  withMaildir(async (maildir, root) => {
    const outcomes = await maildir.deliver(
      claim("me@us.test", "Me@US.TEST", "you@us.test", "Postmaster@us.test"),
    );
    assert.deepEqual(outcomes.map(({ kind, status }) => `${kind} ${status}`), [
      "delivered 2.0.0",
      "delivered 2.0.0",
      "failed 5.1.1",
      "delivered 2.0.0",
    ]);
    assert.deepEqual(names(join(root, "us.test")), ["me", "postmaster"]);
  }, ["Me@us.test"]));

Deno.test("no address leads out of the folder of its domain", () =>
  withMaildir(async (maildir, root) => {
    const hostile = [
      '"../../../etc/passwd"@us.test',
      '".."@us.test',
      '"."@us.test',
      '""@us.test',
      '"a/b"@us.test',
      '"a\\\\b"@us.test',
      '"a\\"b"@us.test',
      "üser@us.test",
      ".hidden@us.test",
      "user@../up",
      "user@",
    ];
    const outcomes = await maildir.deliver(claim(...hostile));
    assert.deepEqual(outcomes.map(({ kind }) => kind), hostile.map(() => "delivered"));
    assert.deepEqual(names(join(root, "..")), ["mail"]);
    assert.deepEqual(names(root), ["%", "%2E.%2Fup", "us.test"]);
    assert.deepEqual(names(join(root, "us.test")), [
      "%",
      "%2E",
      "%2E.",
      "%2E.%2F..%2F..%2Fetc%2Fpasswd",
      "%2Ehidden",
      "%C3%BCser",
      "a%22b",
      "a%2Fb",
      "a%5Cb",
    ]);
  }));

Deno.test("names of folders are never ambiguous", () => {
  const texts = ["", ".", "..", "a", "A", "%", "%41", ".a", "a/b", "a\0b", "ü"];
  assert.equal(new Set(texts.map(safeName)).size, texts.length);
  for (const name of texts.map(safeName)) assert.match(name, /^[a-z0-9_+%-][A-Za-z0-9._+%-]*$/);
});

Deno.test("a mailbox that can't be written is tried again later, and works once it can", () =>
  withMaildir(async (maildir, root) => {
    await Deno.mkdir(join(root, "us.test"), { recursive: true });
    await Deno.writeTextFile(join(root, "us.test", "user"), "a file in the way");
    const [outcome] = await maildir.deliver(claim("user@us.test"));
    assert.deepEqual([outcome!.kind, outcome!.status, outcome!.reason], ["deferred", "4.3.0", "local fault"]);
    await Deno.remove(join(root, "us.test", "user"));
    assert.equal((await maildir.deliver(claim("user@us.test")))[0]!.kind, "delivered");
    // And when the folders go away while we run.
    await Deno.remove(join(root, "us.test"), { recursive: true });
    await maildir.deliver(claim("user@us.test"));
    assert.equal((await maildir.deliver(claim("user@us.test")))[0]!.kind, "delivered");
  }));

Deno.test("content that breaks off leaves nothing behind", () =>
  withMaildir(async (maildir, root) => {
    async function* broken() {
      yield new TextEncoder().encode("Subject: half\r\n");
      await Promise.resolve();
      throw new Error("the store is gone");
    }
    const [outcome] = await maildir.deliver({ ...claim("user@us.test"), content: broken });
    assert.equal(outcome!.kind, "deferred");
    assert.match(outcome!.reply, /the store is gone/);
    for (const folder of ["tmp", "new"]) assert.deepEqual(names(join(root, "us.test", "user", folder)), []);
  }));
