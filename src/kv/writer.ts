/**
 * Group commit. Every commit of Deno KV is an fsync, so callers share one: whatever is waiting when a commit ends
 * goes into the next. A caller's own mutations always stay in one atomic.
 */
import { keySize } from "./keys.ts";

/** Limits of one atomic, with a margin (the store's own: 1,000 mutations, 819,200 bytes, 81,920 bytes of keys). */
export const MAX_MUTATIONS = 900;
const MAX_BYTES = 780_000;
const MAX_KEY_BYTES = 76_000;

/** One change: a value to set, or `undefined` to delete the key. */
export interface Mutation {
  readonly key: Deno.KvKey;
  readonly value?: Uint8Array;
}

/** What one caller wants committed, all or nothing. */
export interface Job<E = unknown> {
  readonly shard: number;
  readonly mutations: readonly Mutation[];
  /** Only while our session's fence stands. */
  readonly fenced: boolean;
  /** What the journal is to note with it. */
  readonly entries?: readonly E[];
  /** Changes of the shard's counters. */
  readonly counts?: Counts;
}

/** Changes of counters, by name. */
export type Counts = Readonly<Record<string, number>>;

/** Adds rows to each atomic about the jobs in it: event blocks and counters. */
export interface Journal<E> {
  seal(jobs: readonly Job<E>[]): Sealed;
}

/** What a {@linkcode Journal} adds to one atomic. */
export interface Sealed {
  readonly mutations: readonly Mutation[];
  /** Takes the counters back when the atomic was not committed. */
  undo(): void;
}

/** Rejects a fenced job: another process has taken over what we owned. */
export class Fenced extends Error {
  override readonly name = "Fenced";
  constructor() {
    super("this process no longer owns its part of the queue");
  }
}

/** The check that stands for our right to write as owner. */
export interface Fence {
  check(): Deno.AtomicCheck | undefined;
  /** Called when the check failed. */
  lost(): void;
}

interface Waiting<E> {
  readonly job: Job<E>;
  readonly bytes: number;
  readonly keyBytes: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** The one writer of a process. */
export class Writer<E> {
  readonly #kv: Deno.Kv;
  readonly #fence: Fence;
  readonly #journal: Journal<E>;
  #waiting: Waiting<E>[] = [];
  #running: Promise<void> | undefined;
  /** Error of the last commit, until one succeeds. */
  #failure: unknown;

  constructor(kv: Deno.Kv, fence: Fence, journal: Journal<E>) {
    this.#kv = kv;
    this.#fence = fence;
    this.#journal = journal;
  }

  /** Why the last commit failed; undefined when it did not. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Jobs that wait for a commit. */
  get backlog(): number {
    return this.#waiting.length;
  }

  /**
   * Resolves once the job is durable.
   * @throws {Fenced} for a fenced job after our fence fell; the store's error when the commit failed.
   */
  commit(job: Job<E>): Promise<void> {
    if (job.mutations.length > MAX_MUTATIONS) {
      return Promise.reject(
        new RangeError(`${job.mutations.length} mutations in one job, at most ${MAX_MUTATIONS}`),
      );
    }
    let bytes = 0;
    let keyBytes = 0;
    for (const { key, value } of job.mutations) {
      const size = keySize(key);
      keyBytes += size;
      bytes += size + (value ? value.length + 16 : 0);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, bytes, keyBytes, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // Callers that became ready in this turn of the event loop share the first commit too.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      if (await this.#attempt(group)) continue;
      // A failed atomic does not say whose fault it was.
      for (const each of group) if (!await this.#attempt([each])) each.reject(this.#failure ?? new Fenced());
    }
    // In the same turn as the last look at what waits: a job that comes now must start a run of its own.
    this.#running = undefined;
  }

  #takeGroup(): Waiting<E>[] {
    let mutations = 0;
    let bytes = 0;
    let keyBytes = 0;
    let count = 0;
    for (const { job, bytes: size, keyBytes: keySize } of this.#waiting) {
      // Room for what the journal adds: one counter row and perhaps one block for each job's shard.
      mutations += job.mutations.length + 2;
      bytes += size + 600 * (job.entries?.length ?? 0) + 200;
      keyBytes += keySize + 60;
      if (count > 0 && (mutations > MAX_MUTATIONS || bytes > MAX_BYTES || keyBytes > MAX_KEY_BYTES)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  /** Commits one group. False, with `#failure` set unless a check failed: nothing was written. */
  async #attempt(group: readonly Waiting<E>[]): Promise<boolean> {
    const jobs = group.map((each) => each.job);
    const atomic = this.#kv.atomic();
    const fenced = jobs.some((job) => job.fenced);
    if (fenced) {
      const check = this.#fence.check();
      if (!check) {
        this.#failure = undefined;
        return false;
      }
      atomic.check(check);
    }
    const sealed = this.#journal.seal(jobs);
    for (const job of jobs) apply(atomic, job.mutations);
    apply(atomic, sealed.mutations);
    try {
      const result = await atomic.commit();
      this.#failure = undefined;
      if (!result.ok) {
        sealed.undo();
        this.#fence.lost();
        return false;
      }
    } catch (error) {
      sealed.undo();
      this.#failure = error;
      return false;
    }
    for (const each of group) each.resolve();
    return true;
  }
}

function apply(atomic: Deno.AtomicOperation, mutations: readonly Mutation[]): void {
  for (const { key, value } of mutations) {
    if (value === undefined) atomic.delete(key);
    else atomic.set(key, value);
  }
}
