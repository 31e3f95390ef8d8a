/**
 * Who owns which shard. A process's run is a session: a fence, written once, that every owner's write checks, and a
 * heartbeat beside it. Death is judged by a heartbeat that has not changed for the lease on *our* monotonic clock;
 * taking over deletes the dead session's fence and gives its shards away in one atomic, so a zombie's writes fail.
 */
import type { Clock } from "../platform/clock.ts";
import type { Log } from "../telemetry/log.ts";
import { keys, SHARDS } from "./keys.ts";
import { decodeRecord, encodeRecord } from "./record.ts";
import type { Fence } from "./writer.ts";

/** Options of {@linkcode Session}. */
export interface SessionOptions {
  readonly kv: Deno.Kv;
  /** Same for every run with one data directory: a restart takes over from itself at once. */
  readonly nodeId: string;
  /** Silence after which a session is taken for dead, in milliseconds. */
  readonly lease: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes session ids. */
  readonly newId: () => string;
}

interface FenceRecord {
  readonly node: string;
  readonly startedAt: number;
}

interface Peer {
  readonly session: string;
  readonly node: string;
  readonly fence: Deno.KvEntry<unknown>;
}

/** Our session, from `join` to `leave`. */
export class Session implements Fence {
  readonly #options: SessionOptions;
  #id = "";
  #fenceEntry: Deno.AtomicCheck | undefined;
  #owned: ReadonlySet<number> = new Set();
  #beatAt = -Infinity;
  #beats = 0;
  #watched = new Map<string, { beat: string | undefined; since: number }>();
  #stop = new AbortController();
  #loop: Promise<void> | undefined;
  /** Told of every change of ownership; `gained` shards have all their rows still unread. */
  onChange: (gained: readonly number[]) => Promise<void> = () => Promise.resolve();
  /** Told when the fence fell: everything in memory about owned shards is void. */
  onLost: () => void = () => {};

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** Id of the current run. */
  get id(): string {
    return this.#id;
  }

  /** Shards we own. */
  get owned(): ReadonlySet<number> {
    return this.#owned;
  }

  /** True while our lease is surely ours: no delivery may start when it is not. */
  get alive(): boolean {
    return this.#fenceEntry !== undefined &&
      this.#options.clock.monotonic() - this.#beatAt < this.#options.lease / 2;
  }

  check(): Deno.AtomicCheck | undefined {
    return this.#fenceEntry;
  }

  lost(): void {
    if (!this.#fenceEntry) return;
    this.#fenceEntry = undefined;
    this.#owned = new Set();
    this.#options.log.error("session lost", { session: this.#id, reason: "another process took over" });
    this.onLost();
  }

  /** Writes our fence, takes over from our own earlier run, and takes every shard that nobody owns. */
  async join(): Promise<void> {
    await this.#enter();
    await this.#takeFree();
    this.#loop = this.#keep();
  }

  /** Gives the shards back and ends the session; what we owned can be taken at once. */
  async leave(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    const check = this.#fenceEntry;
    if (!check) return;
    const atomic = this.#options.kv.atomic().check(check).delete(check.key).delete(keys.beat(this.#id));
    for (const s of this.#owned) atomic.delete(keys.shard(s));
    this.#fenceEntry = undefined;
    this.#owned = new Set();
    await atomic.commit();
  }

  async #enter(): Promise<void> {
    const { kv, nodeId, clock, newId } = this.#options;
    for (;;) {
      const dead = (await this.#peers()).filter((peer) => peer.node === nodeId);
      this.#id = newId();
      const key = keys.fence(this.#id);
      const record: FenceRecord = { node: nodeId, startedAt: clock.now() };
      const beganAt = clock.monotonic();
      const atomic = kv.atomic().set(key, encodeRecord(record)).set(keys.beat(this.#id), encodeRecord(0));
      const gained = await this.#bury(atomic, dead);
      const result = await atomic.commit();
      if (!result.ok) continue;
      this.#fenceEntry = { key, versionstamp: result.versionstamp };
      this.#beatAt = beganAt;
      await this.#gain(gained);
      return;
    }
  }

  /** Adds to `atomic` what ends the dead sessions (at most 8 of them) and gives us their shards. */
  async #bury(atomic: Deno.AtomicOperation, dead: readonly Peer[]): Promise<number[]> {
    const gained: number[] = [];
    const doomed = dead.slice(0, 8);
    if (doomed.length === 0) return gained;
    const owners = await this.#owners();
    for (const peer of doomed) {
      atomic.check(peer.fence).delete(peer.fence.key).delete(keys.beat(peer.session));
      for (const [s, owner] of owners) {
        if (owner.session !== peer.session) continue;
        atomic.set(keys.shard(s), encodeRecord(this.#id));
        gained.push(s);
      }
    }
    return gained;
  }

  /** Shards without an owner, or whose owner has no fence, are anybody's. */
  async #takeFree(): Promise<void> {
    const { kv } = this.#options;
    const check = this.#fenceEntry;
    if (!check) return;
    const [owners, peers] = [await this.#owners(), await this.#peers()];
    const living = new Set(peers.map((peer) => peer.session));
    const free: { s: number; versionstamp: string | null }[] = [];
    for (let s = 0; s < SHARDS; s++) {
      const owner = owners.get(s);
      if (!owner) free.push({ s, versionstamp: null });
      else if (!living.has(owner.session)) free.push({ s, versionstamp: owner.versionstamp });
    }
    const gained: number[] = [];
    // Eight checks an atomic: a KV Connect server allows ten.
    for (let i = 0; i < free.length; i += 8) {
      const atomic = kv.atomic().check(check);
      const part = free.slice(i, i + 8);
      for (const { s, versionstamp } of part) {
        atomic.check({ key: keys.shard(s), versionstamp }).set(keys.shard(s), encodeRecord(this.#id));
      }
      if ((await atomic.commit()).ok) gained.push(...part.map(({ s }) => s));
    }
    await this.#gain(gained);
  }

  async #gain(gained: readonly number[]): Promise<void> {
    if (gained.length === 0) return;
    this.#owned = new Set([...this.#owned, ...gained]);
    this.#options.log.info("shards taken", {
      session: this.#id,
      shards: gained.length,
      owned: this.#owned.size,
    });
    await this.onChange(gained);
  }

  async #keep(): Promise<void> {
    const { lease, clock, log } = this.#options;
    const signal = this.#stop.signal;
    while (!signal.aborted) {
      try {
        await clock.sleep(lease / 5, signal);
      } catch {
        return;
      }
      try {
        if (!this.#fenceEntry) await this.#enter();
        await this.#beat();
        await this.#watch();
        if (this.#owned.size < SHARDS) await this.#takeFree();
      } catch (error) {
        if (signal.aborted) return;
        log.error("heartbeat failed", { error: error instanceof Error ? error.message : String(error) });
      }
    }
  }

  async #beat(): Promise<void> {
    const check = this.#fenceEntry;
    if (!check) return;
    const beganAt = this.#options.clock.monotonic();
    const result = await this.#options.kv.atomic().check(check)
      .set(keys.beat(this.#id), encodeRecord(++this.#beats)).commit();
    if (result.ok) this.#beatAt = beganAt;
    else this.lost();
  }

  /** Takes over from sessions whose heartbeat stands still. */
  async #watch(): Promise<void> {
    const { kv, lease, clock, log } = this.#options;
    const check = this.#fenceEntry;
    if (!check) return;
    const now = clock.monotonic();
    const dead: Peer[] = [];
    const watched = new Map<string, { beat: string | undefined; since: number }>();
    for (const peer of await this.#peers()) {
      if (peer.session === this.#id) continue;
      const beat = (await kv.get(keys.beat(peer.session))).versionstamp ?? undefined;
      const before = this.#watched.get(peer.session);
      const seen = before && before.beat === beat ? before : { beat, since: now };
      watched.set(peer.session, seen);
      if (now - seen.since >= lease) dead.push(peer);
    }
    this.#watched = watched;
    if (dead.length === 0) return;
    const atomic = kv.atomic().check(check);
    const gained = await this.#bury(atomic, dead);
    if (!(await atomic.commit()).ok) return;
    for (const peer of dead) log.warn("session taken over", { node: peer.node, session: peer.session });
    await this.#gain(gained);
  }

  async #peers(): Promise<Peer[]> {
    const peers: Peer[] = [];
    for await (const fence of this.#options.kv.list({ prefix: ["fence"] })) {
      const { value } = decodeRecord<FenceRecord>(fence.value);
      peers.push({ session: String(fence.key[1]), node: value.node, fence });
    }
    return peers;
  }

  async #owners(): Promise<Map<number, { session: string; versionstamp: string }>> {
    const owners = new Map<number, { session: string; versionstamp: string }>();
    for await (const { key, value, versionstamp } of this.#options.kv.list({ prefix: ["shard"] })) {
      owners.set(Number(key[1]), { session: decodeRecord<string>(value).value, versionstamp });
    }
    return owners;
  }
}
