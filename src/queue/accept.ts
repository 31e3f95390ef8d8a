/** The front door: content goes into the store as it comes, and the message exists once its row does. */
import { keys, SHARDS } from "../kv/keys.ts";
import { Fenced, type Job, MAX_MUTATIONS, type Mutation } from "../kv/writer.ts";
import type { QueueEvent, ReceivedEvent } from "../telemetry/event.ts";
import type { ActiveQueues } from "./active.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import {
  type Envelope,
  type Message,
  type NewMessage,
  type Recipient,
  Unavailable,
  type Upload,
} from "./model.ts";
import { envelopesOf } from "./envelopes.ts";
import {
  CHUNK_SIZE,
  deleteChunks,
  fitsInMessage,
  INLINE_MAX,
  setDue,
  setEnvelope,
  setMessage,
  shardOfMessage,
} from "./rows.ts";

/** Chunks written in one job: under half of what one atomic holds, so that two uploads share a commit. */
const CHUNKS_PER_JOB = 6;
/** Envelopes of a message whose due rows go into the accepting commit; with more, the owner adds them after. */
const MAX_ENVELOPES_AT_ONCE = 200;
/** How long one shard takes what comes in before the next has its turn: neighbours share commits and log blocks. */
const SHARD_TURN = 1_000;

/** Takes messages in; one per process. */
export class Accept {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #reasons: () => string[];

  constructor(context: QueueContext, active: ActiveQueues, reasons: () => string[]) {
    this.#context = context;
    this.#active = active;
    this.#reasons = reasons;
  }

  reasons(): string[] {
    return this.#reasons();
  }

  begin(incoming: NewMessage): Upload {
    const [reason] = this.#reasons();
    if (reason !== undefined) throw new Unavailable(reason);
    const now = this.#context.clock.now();
    const id = this.#context.ids.queueId(this.#shard(now), now);
    return new OpenUpload(this.#context, this.#active, incoming, id, now);
  }

  /** The shard whose turn it is: one of ours, or any where we own none. */
  #shard(now: number): number {
    const { owned } = this.#context.session;
    const turn = Math.floor(now / SHARD_TURN);
    if (owned.size === 0) return turn % SHARDS;
    if (owned.size === SHARDS) return turn % SHARDS;
    return [...owned][turn % owned.size]!;
  }
}

class OpenUpload implements Upload {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #incoming: NewMessage;
  readonly #shard: number;
  readonly #receivedAt: number;
  /** What is not in the store yet. */
  #parts: Uint8Array[] = [];
  #pending = 0;
  #size = 0;
  #chunks = 0;
  #done = false;

  constructor(
    context: QueueContext,
    active: ActiveQueues,
    incoming: NewMessage,
    readonly id: string,
    now: number,
  ) {
    this.#context = context;
    this.#active = active;
    this.#incoming = incoming;
    this.#receivedAt = now;
    this.#shard = shardOfMessage(id);
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#parts.push(chunk.slice());
    this.#pending += chunk.length;
    this.#size += chunk.length;
    if (this.#size > INLINE_MAX && this.#pending >= CHUNK_SIZE * CHUNKS_PER_JOB) await this.#flush(false);
  }

  async commit(found: { headerMessageId?: string } = {}): Promise<void> {
    this.#done = true;
    try {
      const inline = this.#size <= INLINE_MAX;
      if (!inline) await this.#flush(true);
      await this.#finish(this.#message(found), inline ? join(this.#parts, this.#pending) : undefined);
    } catch (error) {
      await this.#discard();
      if (error instanceof Unavailable) throw error;
      throw new Unavailable(`the queue cannot be written: ${error instanceof Error ? error.message : error}`);
    } finally {
      this.#parts = [];
    }
  }

  async abort(): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    this.#parts = [];
    await this.#discard();
  }

  #message(found: { headerMessageId?: string }): Message {
    const { reversePath, envid, ret, body, smtpUtf8, requireTls, source } = this.#incoming;
    return {
      id: this.id,
      receivedAt: this.#receivedAt,
      expiresAt: this.#receivedAt + this.#context.settings.queueLifetime,
      reversePath,
      ...(envid !== undefined ? { envid } : {}),
      ...(ret ? { ret } : {}),
      body: body ?? "7BIT",
      smtpUtf8: smtpUtf8 ?? false,
      requireTls: requireTls ?? false,
      size: this.#size,
      source,
      ...(found.headerMessageId ? { headerMessageId: found.headerMessageId } : {}),
      envelopes: 0,
    };
  }

  async #finish(message: Message, body: Uint8Array | undefined): Promise<void> {
    const recipients: Recipient[] = this.#incoming.recipients.map((recipient) => ({
      ...recipient,
      status: "queued",
      attempts: 0,
    }));
    const envelopes = envelopesOf(message.id, recipients, this.#context.routing, {
      band: this.#incoming.band ?? 5,
      at: this.#receivedAt,
    });
    const whole: Message = { ...message, envelopes: envelopes.length };
    const events = receivedEvents(whole, recipients);
    if (envelopes.length <= MAX_ENVELOPES_AT_ONCE && this.#context.session.owned.has(this.#shard)) {
      try {
        return await this.#asOwner(whole, envelopes, body, events);
      } catch (error) {
        // Somebody took the shard in this moment: leave it for them.
        if (!(error instanceof Fenced)) throw error;
      }
    }
    await this.#forOwner(whole, envelopes, body, events);
  }

  /** We own the shard: due rows and all, in one atomic; then straight to the ready list. */
  async #asOwner(
    message: Message,
    envelopes: Envelope[],
    body: Uint8Array | undefined,
    events: QueueEvent[],
  ) {
    const ownRow = envelopes.length > 1 || !fitsInMessage(envelopes[0]!, body);
    const mutations = this.#messageRows(message, ownRow ? undefined : envelopes[0], body);
    for (const envelope of envelopes) {
      if (ownRow) mutations.push(setEnvelope(envelope));
      mutations.push(setDue(envelope, ownRow));
      const agenda = this.#active.reserve(envelope, this.#shard);
      if (agenda) mutations.push(agenda);
    }
    try {
      await commit(this.#context, {
        shard: this.#shard,
        mutations,
        fenced: true,
        entries: events,
        counts: newMessageCounts(envelopes),
      });
    } catch (error) {
      for (const envelope of envelopes) this.#active.retract(envelope, this.#shard);
      throw error;
    }
    for (const envelope of envelopes) {
      this.#active.offer({
        message,
        envelope,
        shard: this.#shard,
        ownRow,
        bytes: body,
        chunks: this.#chunks,
      });
    }
  }

  /** The owner is another, or the message has very many envelopes: they are in the store, and the owner is told. */
  async #forOwner(
    message: Message,
    envelopes: Envelope[],
    body: Uint8Array | undefined,
    events: QueueEvent[],
  ) {
    const ownRow = envelopes.length > 1 || !fitsInMessage(envelopes[0]!, body);
    if (ownRow) {
      // The mark lets the sweeper find these rows should we die before the message row stands.
      await this.#commit([this.#mark(), ...envelopes.slice(0, 100).map(setEnvelope)]);
      for (let i = 100; i < envelopes.length; i += 100) {
        await this.#commit(envelopes.slice(i, i + 100).map(setEnvelope));
      }
    }
    const mutations = this.#messageRows(message, ownRow ? undefined : envelopes[0], body);
    if (ownRow) mutations.push({ key: keys.upload(this.#shard, this.id) });
    mutations.push({ key: keys.incoming(this.#shard, this.id), value: new Uint8Array(0) });
    await commit(this.#context, { shard: this.#shard, mutations, fenced: false, entries: events });
  }

  #messageRows(message: Message, envelope: Envelope | undefined, body: Uint8Array | undefined): Mutation[] {
    const mutations = [setMessage(message, envelope, body, this.#chunks)];
    if (this.#chunks > 0) mutations.push({ key: keys.upload(this.#shard, this.id) });
    return mutations;
  }

  /** Writes full chunks (all of it when `last`). */
  async #flush(last: boolean): Promise<void> {
    const bytes = join(this.#parts, this.#pending);
    const end = last ? bytes.length : bytes.length - bytes.length % CHUNK_SIZE;
    let mutations: Mutation[] = this.#chunks === 0 ? [this.#mark()] : [];
    for (let i = 0; i < end; i += CHUNK_SIZE) {
      const value = bytes.slice(i, Math.min(i + CHUNK_SIZE, end));
      mutations.push({ key: keys.chunk(this.#shard, this.id, this.#chunks++), value });
      if (mutations.length >= CHUNKS_PER_JOB) {
        await this.#commit(mutations);
        mutations = [];
      }
    }
    if (mutations.length > 0) await this.#commit(mutations);
    this.#parts = end < bytes.length ? [bytes.slice(end)] : [];
    this.#pending = bytes.length - end;
  }

  #mark(): Mutation {
    return { key: keys.upload(this.#shard, this.id), value: new Uint8Array(0) };
  }

  #commit(mutations: Mutation[]): Promise<void> {
    const job: Job<QueueEvent> = { shard: this.#shard, mutations, fenced: false };
    return this.#context.writer.commit(job);
  }

  /** Removes the chunks of a message that will not be; where that fails too, the sweeper finds the mark. */
  async #discard(): Promise<void> {
    if (this.#chunks === 0) return;
    const doomed = deleteChunks(this.id, 0, this.#chunks);
    doomed.push({ key: keys.upload(this.#shard, this.id) });
    try {
      for (let i = 0; i < doomed.length; i += MAX_MUTATIONS) {
        await this.#commit(doomed.slice(i, i + MAX_MUTATIONS));
      }
    } catch (error) {
      this.#context.log.warn("discard failed", {
        id: this.id,
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }
}

/** Characters of addresses in one event: its line must fit into one block of the log. */
const MAX_EVENT_ADDRESSES = 15_000;

/** The events of a message that came in: one, or several where it has very many recipients. */
export function receivedEvents(message: Message, recipients: readonly Recipient[]): ReceivedEvent[] {
  const groups: Recipient[][] = [[]];
  let size = 0;
  for (const recipient of recipients) {
    size += recipient.address.length;
    if (size > MAX_EVENT_ADDRESSES) {
      groups.push([]);
      size = recipient.address.length;
    }
    groups.at(-1)!.push(recipient);
  }
  return groups.map((group) => receivedEvent(message, group));
}

/** The event of a message that came in. */
export function receivedEvent(message: Message, recipients: readonly Recipient[]): ReceivedEvent {
  const { id, reversePath, size, headerMessageId, source, report } = message;
  return {
    type: "received",
    at: message.receivedAt,
    id,
    from: reversePath,
    to: recipients.map(({ address }) => address),
    size,
    ...(headerMessageId ? { messageId: headerMessageId } : {}),
    protocol: source.protocol,
    ...(source.client ? { client: source.client } : {}),
    ...(source.user ? { user: source.user } : {}),
    ...(report ? { reportOf: report.of } : {}),
  };
}

/** Counters of a message that comes into a shard. */
export function newMessageCounts(envelopes: readonly Envelope[]): Record<string, number> {
  let recipients = 0;
  for (const envelope of envelopes) recipients += envelope.recipients.length;
  return { [COUNTERS.messages]: 1, [COUNTERS.recipients]: recipients };
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
