/**
 * Side by side on this machine, in one run: smtp-source → server → sink, for every server that is found here.
 *
 *     deno task bench [--messages 20000] [--sessions 20,100] [--only epoxi,postfix] [--size 4096] [--keep both|yes|no]
 *
 * accept/s: messages answered 250. end to end/s: messages that have reached the sink. A probe, one more connection
 * beside the load, measures how long a 250 takes and how long a message takes to the sink.
 */
import { parseArgs } from "node:util";
import { SinkServer } from "../src/cli/sink_server.ts";
import { findProgram, run } from "../tests/support/epoxi.ts";
import { LoadConnection, loadMessage } from "../tests/support/load_client.ts";
import { until } from "../tests/support/until.ts";
import { allPeers, memoryOf, type Peer } from "./bench_peers.ts";

interface Plan {
  readonly messages: number;
  readonly size: number;
  readonly sessions: number;
  /** Connections carry many messages (smtp-source -d). */
  readonly keep: boolean;
}

interface Figures extends Plan {
  readonly peer: string;
  readonly acceptRate: number;
  readonly endToEndRate: number;
  /** Milliseconds of the probe until 250, and until the sink had it: [p50, p99]. */
  readonly accepted: readonly [number, number];
  readonly arrived: readonly [number, number];
  /** Bytes at its height. */
  readonly memory: number;
}

const DRAIN_LIMIT = 30 * 60_000;

async function measure(peer: Peer, plan: Plan): Promise<Figures> {
  const arrivals = new Map<string, number>();
  await using sink = SinkServer.start({
    listen: { host: "127.0.0.1", port: 0 },
    receive({ to: [first = ""] }) {
      if (!first.startsWith("probe-")) return undefined;
      return { write() {}, end: () => void arrivals.set(first, performance.now()), abort() {} };
    },
  });
  await using server = await peer.start(sink.address.port);
  const watch = new Watch(server.pid);
  const probing = new AbortController();
  const probe = runProbe(server.port, plan.size, probing.signal);
  const start = performance.now();
  try {
    await generate(server.port, plan);
    const accepted = performance.now();
    probing.abort();
    const sent = await probe;
    const total = plan.messages + sent.length;
    await until(
      `delivery of ${total} messages`,
      () => {
        if (memoryOf(server.pid) === 0) throw new Error("it ended before all was delivered");
        return sink.counts.messages >= total;
      },
      undefined,
      DRAIN_LIMIT,
    );
    const done = performance.now();
    return {
      ...plan,
      peer: peer.name,
      acceptRate: plan.messages / (accepted - start) * 1000,
      endToEndRate: plan.messages / (done - start) * 1000,
      accepted: percentiles(sent.map(({ start, end }) => end - start)),
      arrived: percentiles(sent.map(({ id, start }) => arrivals.get(id)! - start)),
      memory: watch.highest,
    };
  } finally {
    probing.abort();
    watch.stop();
  }
}

/** Looks at a server's memory now and then. */
class Watch {
  highest = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(pid: number) {
    this.#timer = setInterval(() => this.highest = Math.max(this.highest, memoryOf(pid)), 500);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

async function generate(port: number, { messages, size, sessions, keep }: Plan): Promise<void> {
  const args = ["-s", `${sessions}`, "-m", `${messages}`, "-l", `${size}`, ...(keep ? ["-d"] : [])];
  const addresses = ["-M", "load.epoxi.test", "-f", "load@epoxi.test", "-t", "sink@sink.test"];
  const { code, stderr } = await run([
    findProgram("smtp-source")!,
    ...args,
    ...addresses,
    `127.0.0.1:${port}`,
  ]);
  if (code !== 0) throw new Error(`smtp-source: ${stderr.trim()}`);
}

/** One message after the other until told to stop. */
async function runProbe(port: number, size: number, signal: AbortSignal) {
  const sent: { id: string; start: number; end: number }[] = [];
  const connection = await LoadConnection.open(port);
  try {
    for (let n = 0; !signal.aborted; n++) {
      const id = `probe-${n}@sink.test`;
      const start = performance.now();
      await connection.send("probe@epoxi.test", [id], loadMessage(`probe-${n}`, size));
      sent.push({ id, start, end: performance.now() });
    }
  } finally {
    connection.close();
  }
  return sent;
}

function percentiles(times: readonly number[]): [number, number] {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? NaN;
  return [at(0.5), at(0.99)];
}

/** What generator and sink do without a server between them: no figure can be better. */
async function ceiling(plan: Plan): Promise<number> {
  await using sink = SinkServer.start({ listen: { host: "127.0.0.1", port: 0 } });
  const start = performance.now();
  await generate(sink.address.port, plan);
  return plan.messages / (performance.now() - start) * 1000;
}

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.map((cell) => typeof cell === "number" ? cell.toFixed(0) : cell).join(" | ")} |`;
}

function report(plan: Plan, limit: number, figures: readonly Figures[]): void {
  const kept = plan.keep ? "connections kept (-d)" : "one message a connection";
  console.log(`\n${plan.messages} messages of ${plan.size} bytes, ${plan.sessions} sessions, ${kept}`);
  console.log(`generator straight to sink: ${limit.toFixed(0)}/s\n`);
  console.log(
    row([
      "server",
      "accept/s",
      "end to end/s",
      "250 p50/p99 ms",
      "arrival p50/p99 ms",
      "memory MiB",
      "epoxi is",
    ]),
  );
  console.log(row(["---", "--:", "--:", "--:", "--:", "--:", "--:"]));
  const ours = figures.find(({ peer }) => peer === "epoxi");
  for (const each of figures) {
    const pair = (times: readonly number[]) => times.map((time) => time.toFixed(1)).join(" / ");
    const ratio = ours && each !== ours ? `${(ours.endToEndRate / each.endToEndRate).toFixed(1)} ×` : "";
    console.log(row([
      each.peer,
      each.acceptRate,
      each.endToEndRate,
      pair(each.accepted),
      pair(each.arrived),
      each.memory / 1024 ** 2,
      ratio,
    ]));
  }
}

function count(name: string, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(value > 0)) throw new Error(`--${name} ${text}: expected a whole number above 0`);
  return value;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      messages: { type: "string", default: "20000" },
      sessions: { type: "string", default: "20,100" },
      size: { type: "string", default: "4096" },
      only: { type: "string", default: "epoxi,postfix,haraka" },
      keep: { type: "string", default: "both" },
    },
  });
  if (!["both", "yes", "no"].includes(values.keep)) {
    throw new Error(`--keep ${values.keep}: expected both, yes or no`);
  }
  if (!findProgram("smtp-source")) throw new Error("smtp-source not found: it comes with Postfix");
  const { peers, dispose } = allPeers();
  const wanted = values.only.split(",");
  const unknown = wanted.filter((name) => !peers.some((peer) => peer.name === name));
  if (unknown.length > 0) {
    throw new Error(`--only ${unknown}: expected some of ${peers.map(({ name }) => name)}`);
  }
  const present = peers.filter((peer) => {
    const reason = wanted.includes(peer.name) ? peer.missing() : "not asked for";
    if (reason) console.log(`${peer.name}: left out, ${reason}`);
    return !reason;
  });
  try {
    for (const sessions of values.sessions.split(",").map((text) => count("sessions", text))) {
      for (const keep of values.keep === "both" ? [true, false] : [values.keep === "yes"]) {
        const plan = {
          messages: count("messages", values.messages),
          size: count("size", values.size),
          sessions,
          keep,
        };
        const limit = await ceiling(plan);
        const figures: Figures[] = [];
        for (const peer of present) {
          try {
            figures.push(await measure(peer, plan));
          } catch (error) {
            console.log(`${peer.name}: no figures, ${error instanceof Error ? error.message : error}`);
          }
        }
        report(plan, limit, figures);
      }
    }
  } finally {
    await dispose();
  }
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
