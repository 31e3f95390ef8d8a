/** A queue on a store of its own, on a clock moved by hand. */
import assert from "node:assert/strict";
import { openStore, type Store } from "../../src/kv/store.ts";
import type { Claim, NewMessage, Outcome } from "../../src/queue/model.ts";
import { createRouting } from "../../src/queue/next_hop.ts";
import { Queue } from "../../src/queue/queue.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type { QueueEvent } from "../../src/telemetry/event.ts";
import { ManualClock } from "./manual_clock.ts";
import { until } from "./until.ts";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

/** Settings a test may change. */
export interface TestQueueOptions {
  readonly path?: string;
  readonly nodeId?: string;
  readonly clock?: ManualClock;
  readonly lifetime?: number;
  readonly delayNotice?: number;
  readonly schedule?: readonly number[];
  readonly readyMemory?: number;
  readonly minFreeDisk?: number;
}

/** A queue and what a test needs around it. */
export class TestQueue implements AsyncDisposable {
  events: QueueEvent[] = [];
  /** Warnings and errors logged; none are expected unless a test takes them out. */
  troubles: string[] = [];
  readonly ready: string[] = [];

  private constructor(
    readonly queue: Queue,
    readonly store: Store,
    readonly clock: ManualClock,
    readonly path: string,
    readonly folder: string | undefined,
  ) {}

  static async open(options: TestQueueOptions = {}): Promise<TestQueue> {
    const folder = options.path ? undefined : await Deno.makeTempDir({ prefix: "epoxi-queue-" });
    const path = options.path ?? `${folder}/epoxi.kv`;
    const clock = options.clock ?? new ManualClock();
    const store = await openStore(path, "serve");
    const events: QueueEvent[] = [];
    const troubles: string[] = [];
    const queue = await Queue.open({
      store,
      settings: {
        hostname: "mta.epoxi.test",
        retrySchedule: options.schedule ?? [5 * MINUTE, 30 * MINUTE, 2 * HOUR, 4 * HOUR, 8 * HOUR],
        queueLifetime: options.lifetime ?? 96 * HOUR,
        delayNotice: options.delayNotice ?? 4 * HOUR,
        readyMemory: options.readyMemory ?? 64 * 2 ** 20,
        history: 72 * HOUR,
        historySize: 2 ** 31,
        deadLetters: 168 * HOUR,
        deadLettersSize: 2 ** 30,
        lease: 15_000,
        minFreeDisk: options.minFreeDisk ?? 0,
        memoryLimit: 2 ** 40,
      },
      nodeId: options.nodeId ?? "node-1",
      dataDir: folder,
      routing: createRouting({ localDomains: ["local.test"], routes: [], capture: false }),
      clock,
      random: () => 0.5,
      newSessionId: () => crypto.randomUUID(),
      log: createLog({
        format: "text",
        level: "warn",
        now: () => clock.now(),
        write: (line) => troubles.push(line),
      }),
      onEvents: (batch) => events.push(...batch),
    });
    const test = new TestQueue(queue, store, clock, path, folder);
    test.events = events;
    test.troubles = troubles;
    queue.work.onReady((name) => test.ready.push(name));
    return test;
  }

  /** Accepts a message and returns its queue id. */
  async accept(
    message: Partial<NewMessage> & { to?: readonly string[] },
    content = "Subject: x\r\n\r\nhi\r\n",
  ) {
    const { to, ...rest } = message;
    const upload = this.queue.acceptor.begin({
      reversePath: "sender@origin.test",
      recipients: (to ?? ["a@one.test"]).map((address) => ({ address })),
      source: { protocol: "ESMTP" },
      ...rest,
    });
    const bytes = new TextEncoder().encode(content);
    for (let i = 0; i < bytes.length; i += 50_000) await upload.write(bytes.subarray(i, i + 50_000));
    await upload.commit();
    return upload.id;
  }

  /** Takes the next envelope of a queue, moving time in small steps until there is one. */
  async take(queue: string, step = 100): Promise<Claim> {
    return await until(`something to take from ${queue}`, () => this.queue.work.take(queue, 1), () => {
      this.clock.advance(step);
    });
  }

  /** Moves time on until `probe` holds. */
  async until<T>(what: string, probe: () => T | Promise<T>, step = 100): Promise<NonNullable<T>> {
    return await until(what, probe, () => this.clock.advance(step));
  }

  /** Moves time on in small steps until `promise` settles. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    promise.then(() => settled = true, () => settled = true);
    await this.until("the end of a call", () => settled, 10);
    return await promise;
  }

  /** Rows of the store under a prefix. */
  async rows(...prefix: Deno.KvKeyPart[]): Promise<Deno.KvEntry<unknown>[]> {
    return await Array.fromAsync(this.store.reader.list({ prefix }));
  }

  /** Ends as a crash would: nothing is given back. */
  async crash(): Promise<void> {
    this.store.close();
    await this.queue.close().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queue.close();
    this.store.close();
    if (this.folder) await Deno.remove(this.folder, { recursive: true });
    assert.deepEqual(this.troubles, []);
  }
}

/** An outcome for tests. */
export function outcome(kind: Outcome["kind"], reply = "250 2.0.0 OK", more: Partial<Outcome> = {}): Outcome {
  const status = /^\d{3} (\d\.\d+\.\d+)/.exec(reply)?.[1] ?? "4.0.0";
  return { kind, scope: "recipient", reply, status, fromRemote: true, remoteMta: "mx.one.test", ...more };
}

/** Content of a claim as text. */
export async function textOf(claim: Claim): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of claim.content()) text += decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}
