/** The queue of one process: opens its parts, keeps their clocks running, closes them in order. */
import { createIdSource } from "../kv/ids.ts";
import { EventJournal, type ShardCounts } from "../kv/journal.ts";
import { keys } from "../kv/keys.ts";
import { decodeRecord } from "../kv/record.ts";
import { Session } from "../kv/session.ts";
import type { Store } from "../kv/store.ts";
import { Writer } from "../kv/writer.ts";
import type { Clock } from "../platform/clock.ts";
import type { QueueEvent } from "../telemetry/event.ts";
import type { Log } from "../telemetry/log.ts";
import { Accept } from "./accept.ts";
import { ActiveQueues } from "./active.ts";
import type { PipelineView, QueueApi } from "./api.ts";
import type { QueueContext, QueueSettings } from "./context.ts";
import { Health } from "./health.ts";
import { ingest } from "./ingest.ts";
import type { Acceptor, Work } from "./model.ts";
import type { NextHop } from "./next_hop.ts";
import { Orders } from "./orders.ts";
import { Query } from "./query.ts";
import { Settle } from "./settle.ts";
import { StatusPublisher } from "./status.ts";
import { Sweep } from "./sweep.ts";
import { QueueWork } from "./work.ts";

/** What a queue is opened with. */
export interface QueueOptions {
  readonly store: Store;
  readonly settings: QueueSettings & {
    readonly lease: number;
    readonly minFreeDisk: number;
    readonly memoryLimit: number;
  };
  readonly nodeId: string;
  /** Folder whose disk is watched. */
  readonly dataDir: string | undefined;
  readonly routing: (domain: string) => NextHop;
  readonly clock: Clock;
  readonly random: () => number;
  /** Makes ids that no other process makes. */
  readonly newSessionId: () => string;
  readonly log: Log;
  /** Told of every event once it is durable. */
  readonly onEvents?: (events: readonly QueueEvent[]) => void;
}

/** How often the agenda and other processes' rows are looked at, in milliseconds. */
const TICK = 100;
const POLL = 250;
const STATUS = 1_000;

/** An open queue. */
export class Queue {
  readonly acceptor: Acceptor;
  readonly work: Work;
  readonly api: QueueApi;
  /** Figures of the delivery side for the node's published status. */
  pipelines: () => readonly PipelineView[] = () => [];
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #accept: Accept;
  readonly #work: QueueWork;
  readonly #orders: Orders;
  readonly #sweep: Sweep;
  readonly #health: Health;
  readonly #status: StatusPublisher;
  readonly #options: QueueOptions;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #polling: Promise<void> | undefined;
  #pollAgain = false;

  private constructor(options: QueueOptions, context: QueueContext) {
    const { settings, store, dataDir } = options;
    this.#options = options;
    this.#context = context;
    this.#active = new ActiveQueues(context);
    this.#health = new Health({
      dataDir,
      minFreeDisk: settings.minFreeDisk,
      memoryLimit: settings.memoryLimit,
      storeFailure: () => context.writer.failure,
      commitBacklog: () => context.writer.backlog,
    });
    const settle = new Settle(context, this.#active);
    this.#accept = new Accept(context, this.#active, () => this.#health.reasons());
    this.#orders = new Orders(context, this.#active, settle);
    this.#sweep = new Sweep(context, this.#active, settle);
    this.#work = new QueueWork(context, this.#active, settle);
    this.#status = new StatusPublisher(store.kv, options.nodeId);
    this.acceptor = this.#accept;
    this.work = this.#work;
    this.api = new Query(context, () => void this.#poll());
  }

  /** Joins the store's owners and begins to look after the shards that are ours. */
  static async open(options: QueueOptions): Promise<Queue> {
    const { store, settings, clock, random, log } = options;
    const ids = createIdSource(random);
    const session = new Session({
      kv: store.kv,
      nodeId: options.nodeId,
      lease: settings.lease,
      clock,
      log,
      newId: options.newSessionId,
    });
    const journal = new EventJournal<QueueEvent>(ids, () => clock.now());
    const context: QueueContext = {
      store,
      writer: new Writer<QueueEvent>(store.kv, session, journal),
      session,
      journal,
      ids,
      clock,
      random,
      log,
      settings,
      routing: options.routing,
      publish: options.onEvents ?? (() => {}),
    };
    const queue = new Queue(options, context);
    await queue.#start();
    return queue;
  }

  /** Figures of what is in memory. */
  get counts(): ActiveQueues["counts"] {
    return this.#active.counts;
  }

  /** A counter of the shards we own. */
  total(name: string): number {
    return this.#context.journal.total(name);
  }

  /** Hands out no more deliveries. */
  stopWork(): void {
    this.#work.stop();
  }

  /** Stops looking after the queue, commits what waits, and gives the shards back. The store stays open. */
  async close(): Promise<void> {
    this.#work.stop();
    this.#stop.abort();
    await Promise.all(this.#loops);
    await this.#polling;
    await this.#context.writer.idle();
    try {
      await this.#status.withdraw();
      await this.#context.session.leave();
    } catch (error) {
      this.#context.log.error("leave failed", { error: message(error) });
    }
  }

  async #start(): Promise<void> {
    const { session } = this.#context;
    session.onChange = (gained) => this.#gained(gained);
    session.onLost = () => {
      this.#active.clear();
      this.#context.journal.forget();
      this.#sweep.reset();
    };
    this.#health.check();
    await session.join();
    this.#every(TICK, () => this.#active.tick());
    this.#every(POLL, () => this.#poll());
    this.#every(STATUS, () => this.#watch());
    const { queueLifetime, delayNotice, lease } = this.#options.settings;
    const sweepEvery = Math.min(10_000, Math.max(250, Math.min(queueLifetime, delayNotice, lease) / 4));
    this.#every(sweepEvery, () => this.#sweep.run(this.#stop.signal));
  }

  async #gained(shards: readonly number[]): Promise<void> {
    const { reader } = this.#context.store;
    for (const s of shards) {
      const { value } = await reader.get(keys.counters(s));
      this.#context.journal.load(s, value === null ? {} : decodeRecord<ShardCounts>(value).value);
    }
    this.#sweep.reset();
    this.#active.gained(shards);
  }

  /** Takes in what other processes left for us, once more when it was asked for meanwhile. */
  #poll(): Promise<void> {
    if (this.#polling) this.#pollAgain = true;
    this.#polling ??= (async () => {
      do {
        this.#pollAgain = false;
        const taken = await ingest(this.#context, this.#active) + await this.#orders.poll();
        if (taken >= 500) this.#pollAgain = true;
      } while (this.#pollAgain && !this.#stop.signal.aborted);
    })().catch((error) => {
      this.#context.log.error("poll failed", { error: message(error) });
    }).finally(() => this.#polling = undefined);
    return this.#polling;
  }

  async #watch(): Promise<void> {
    const { clock, writer } = this.#context;
    this.#health.check();
    const queues = [...this.#active.perQueue()].filter(({ ready, inFlight }) => ready + inFlight > 0);
    const pipelines = this.pipelines();
    if (writer.failure !== undefined) {
      // Nothing is accepted while the store fails, so nothing else would find out that it works again.
      await writer.commit({
        shard: 0,
        fenced: false,
        mutations: [{ key: keys.status(""), value: new Uint8Array(0) }],
      })
        .then(() => writer.commit({ shard: 0, fenced: false, mutations: [{ key: keys.status("") }] }))
        .catch(() => {});
      return;
    }
    await this.#status.publish(clock.now(), { queues, pipelines });
  }

  #every(ms: number, work: () => Promise<void>): void {
    const { clock, log } = this.#context;
    const { signal } = this.#stop;
    this.#loops.push((async () => {
      while (!signal.aborted) {
        try {
          await work();
        } catch (error) {
          log.error("queue upkeep failed", { error: message(error) });
        }
        try {
          await clock.sleep(ms, signal);
        } catch {
          return;
        }
      }
    })());
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
