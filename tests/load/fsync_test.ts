/**
 * A kill does not show that data is on disk, as the kernel keeps what was written. So fsync is made slow from outside:
 * a 250 that waits for it comes that much later, and one that does not is found out.
 */
import assert from "node:assert/strict";
import { EpoxiProcess, findProgram, peerTest } from "../support/epoxi.ts";
import { LoadConnection, loadMessage } from "../support/load_client.ts";
import { until } from "../support/until.ts";

const DELAY = 400;
const MESSAGES = 8;

/** Milliseconds each of some messages takes, one after the other. */
async function timings(port: number, name: string): Promise<number[]> {
  const connection = await LoadConnection.open(port);
  try {
    const times: number[] = [];
    for (let n = 0; n < MESSAGES; n++) {
      const start = performance.now();
      await connection.send("a@epoxi.test", [`${name}-${n}@held.test`], loadMessage(`${name}-${n}`, 4096));
      times.push(performance.now() - start);
    }
    return times;
  } finally {
    connection.close();
  }
}

/** Slows every fsync of a process while `during` runs; answers the calls strace saw beside what `during` did. */
async function withSlowSync<T>(pid: number, during: () => Promise<T>): Promise<{ result: T; calls: number }> {
  const log = await Deno.makeTempFile({ prefix: "epoxi-strace-" });
  const strace = new Deno.Command(findProgram("strace")!, {
    args: [
      "-f",
      "-p",
      `${pid}`,
      "-o",
      log,
      "-e",
      "trace=fsync,fdatasync",
      "-e",
      `inject=fsync,fdatasync:delay_enter=${DELAY * 1000}`,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const told = { text: "" };
  const reading = (async () => {
    for await (const text of strace.stderr.pipeThrough(new TextDecoderStream())) told.text += text;
  })();
  try {
    await until("strace at every thread", () => told.text.includes(`Process ${pid} attached`));
    const result = await during();
    const calls = (await Deno.readTextFile(log)).split("\n").filter((line) =>
      /f(data)?sync\(/.test(line)
    ).length;
    return { result, calls };
  } finally {
    strace.kill("SIGINT");
    await strace.status;
    await reading;
    await Deno.remove(log);
  }
}

peerTest("fsync: no 250 comes before the message is on disk", ["strace"], async () => {
  // Nobody answers at the next hop, so that delivery has nothing to write beside what accepting writes.
  await using epoxi = await EpoxiProcess.start({
    env: { EPOXI_ROUTES: "*=127.0.0.1:9", EPOXI_RETRY_SCHEDULE: "1h", EPOXI_LOG_LEVEL: "warn" },
  });
  const before = await timings(epoxi.smtpPort, "before");
  const { result: slow, calls } = await withSlowSync(epoxi.pid, () => timings(epoxi.smtpPort, "slow"));
  const after = await timings(epoxi.smtpPort, "after");
  const text = (times: number[]) => times.map((time) => time.toFixed(0)).join(" ");
  console.log(
    `250 after (ms): ${text(before)}; fsync + ${DELAY} ms: ${text(slow)}, ${calls} calls; again: ${
      text(after)
    }`,
  );
  assert.ok(calls >= MESSAGES, `${calls} syncs for ${MESSAGES} messages one after the other`);
  for (const time of slow) assert.ok(time >= DELAY * 0.9, `a 250 came after ${time.toFixed(0)} ms`);
  // The delay is what made it slow.
  assert.ok(Math.min(...before) < DELAY / 2, `without the delay it took ${text(before)} ms`);
  assert.ok(Math.min(...after) < DELAY / 2, `after the delay it took ${text(after)} ms`);
});
