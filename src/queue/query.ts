/** The queue as the HTTP API sees it: reads rows and history, leaves orders. Any node's API serves the whole store. */
import { idAt, QUEUE_ID_LENGTH, shardOf, timeOf } from "../kv/ids.ts";
import { keys, SHARDS } from "../kv/keys.ts";
import { decodeRecord } from "../kv/record.ts";
import type { RecipientStatus } from "../telemetry/event.ts";
import type {
  CapturedListView,
  CommandKind,
  CommandResult,
  DeadListView,
  DomainSort,
  FoundView,
  MessagesView,
  MessageView,
  Page,
  PipelineView,
  QueueApi,
  QueueView,
} from "./api.ts";
import { overallStatus } from "./api.ts";
import { readBody, readContent, readHeader, readMessage } from "./body.ts";
import { commit, COUNTERS, type QueueContext } from "./context.ts";
import { eventsOf, findReceived } from "./history.ts";
import { messageView } from "./message_view.ts";
import { type OrderKind, orderRow } from "./order.ts";
import { readEnvelopes } from "./read.ts";
import { findKept } from "./replay.ts";
import { decodeKept, decodeMessage, type KeptKind, type KeptMessage, shardOfMessage } from "./rows.ts";
import type { NodeStatus } from "./status.ts";
import { lastReplyOf, type QueueFigures, Summary } from "./summary.ts";
import { decodeHeaderText, fieldValue, parseHeader } from "../message/header.ts";

/** How long an order is waited for before the answer is "accepted", in milliseconds. */
const ORDER_WAIT = 3_000;
const ORDER_POLL = 20;
const HEADER_MAX = 16 * 1024;

/** Implements {@linkcode QueueApi} on the store. */
export class Query implements QueueApi {
  readonly #context: QueueContext;
  readonly #summary: Summary;
  /** Tells the owner, when that is us, not to wait for its next look. */
  readonly #wake: () => void;

  constructor(context: QueueContext, wake: () => void) {
    this.#context = context;
    this.#wake = wake;
    this.#summary = new Summary(context.store.reader, context.clock);
  }

  get #kv(): Deno.Kv {
    return this.#context.store.reader;
  }

  async get(id: string): Promise<MessageView | undefined> {
    if (shardOf(id) === undefined) return undefined;
    const [stored, events, kept] = await Promise.all([
      readMessage(this.#kv, id),
      eventsOf(this.#kv, id),
      findKept(this.#kv, id),
    ]);
    const envelopes = stored ? await readEnvelopes(this.#kv, stored) : [];
    return messageView(id, { stored, envelopes, events, kept: kept?.kept });
  }

  async summary({ limit, cursor, sort }: Page & { readonly sort: DomainSort }): Promise<QueueView> {
    const { counts, queues, oldest } = await this.#summary.read();
    const sorted = [...queues.values()].sort(ORDERS[sort]);
    const from = cursor === undefined ? 0 : Number(cursor);
    const page = sorted.slice(from, from + limit);
    const sum = (name: "scheduled" | "ready" | "inFlight") =>
      sorted.reduce((total, each) => total + each[name], 0);
    return {
      messages: counts[COUNTERS.messages] ?? 0,
      recipients: counts[COUNTERS.recipients] ?? 0,
      scheduled: sum("scheduled"),
      ready: sum("ready"),
      inFlight: sum("inFlight"),
      held: counts[COUNTERS.held] ?? 0,
      deadLetters: counts[COUNTERS.dead] ?? 0,
      oldest: oldest === undefined ? null : iso(timeOf(oldest)),
      domains: await Promise.all(page.map(async ({ queue, oldest, ...figures }) => ({
        domain: queue,
        scheduled: figures.scheduled,
        ready: figures.ready,
        inFlight: figures.inFlight,
        held: figures.held,
        oldest: oldest === undefined ? null : iso(timeOf(oldest)),
        lastReply: (oldest === undefined ? undefined : await lastReplyOf(this.#kv, oldest, queue)) ?? null,
      }))),
      ...(from + limit < sorted.length ? { cursor: String(from + limit) } : {}),
    };
  }

  async list(
    options: Page & { readonly domain?: string; readonly status?: RecipientStatus },
  ): Promise<MessagesView> {
    const messages: FoundView[] = [];
    // Ids sort by time within a shard: merge the shards by reading a page of each.
    const after = options.cursor === undefined ? undefined : timeAndId(options.cursor);
    const heads: FoundView[] = [];
    for (let s = 0; s < SHARDS; s++) {
      const start = after === undefined ? keys.message(s, "") : keys.message(s, idAt(after.time, s));
      let count = 0;
      for await (const { value } of this.#kv.list({ prefix: ["m", s], start }, { batchSize: 50 })) {
        const stored = decodeMessage(value);
        const { id } = stored.message;
        if (after && (timeOf(id) < after.time || (timeOf(id) === after.time && id <= after.id))) continue;
        const envelopes = await readEnvelopes(this.#kv, stored);
        if (options.domain !== undefined && !envelopes.some(({ queue }) => queue === options.domain)) {
          continue;
        }
        const recipients = envelopes.flatMap((envelope) => envelope.recipients);
        const status = overallStatus(recipients);
        if (options.status !== undefined && status !== options.status) continue;
        const { reversePath, receivedAt, headerMessageId } = stored.message;
        heads.push({
          id,
          from: reversePath,
          to: recipients.map(({ address }) => address),
          status,
          receivedAt: iso(receivedAt),
          ...(headerMessageId ? { messageId: headerMessageId } : {}),
        });
        if (++count > options.limit) break;
      }
    }
    heads.sort((a, b) => timeOf(a.id) - timeOf(b.id) || (a.id < b.id ? -1 : 1));
    messages.push(...heads.slice(0, options.limit));
    const last = messages.at(-1);
    return { messages, ...(heads.length > options.limit && last ? { cursor: last.id } : {}) };
  }

  async command(kind: CommandKind, id: string, by: string): Promise<CommandResult> {
    if (shardOf(id) === undefined || !await readMessage(this.#kv, id)) return "not found";
    return await this.#order(kind, id, by);
  }

  async find(query: string, limit: number): Promise<readonly FoundView[]> {
    const events = new Map((await findReceived(this.#kv, query, limit)).map((event) => [event.id, event]));
    const found = await Promise.all(
      [...events.values()].map(async (event): Promise<FoundView | undefined> => {
        const view = await this.get(event.id);
        return view && {
          id: view.id,
          from: view.from,
          to: view.recipients.map(({ address }) => address),
          status: view.status,
          receivedAt: view.receivedAt,
          ...(view.messageId ? { messageId: view.messageId } : {}),
        };
      }),
    );
    if (found.length === 0 && query.length === QUEUE_ID_LENGTH) {
      const view = await this.get(query);
      if (view) found.push({ ...view, to: view.recipients.map(({ address }) => address) });
    }
    return found.filter((each) => each !== undefined);
  }

  async captured(options: Page): Promise<CapturedListView> {
    const { found, cursor } = await this.#keptPage("captured", options);
    const messages = await Promise.all(found.map(async (kept) => ({
      id: kept.message.id,
      from: kept.message.reversePath,
      to: kept.recipients.map(({ address }) => address),
      subject: await this.#subject(kept),
      receivedAt: iso(kept.message.receivedAt),
      size: kept.message.size,
    })));
    return { messages, ...(cursor === undefined ? {} : { cursor }) };
  }

  async content(id: string): Promise<AsyncIterable<Uint8Array> | undefined> {
    return shardOf(id) === undefined ? undefined : await readContent(this.#kv, id);
  }

  async forget(id: string | undefined, by: string): Promise<CommandResult> {
    if (id !== undefined) return await this.#onKept("captured", "purge", id, by);
    let result: CommandResult = "applied";
    for await (const { key } of this.#kv.list({ prefix: ["kept", "captured"] })) {
      const each = await this.#order("purge", String(key[3]), by, false);
      if (each === "accepted") result = each;
    }
    this.#wake();
    return result;
  }

  async dead(options: Page): Promise<DeadListView> {
    const { found, cursor } = await this.#keptPage("dead", options);
    const messages = await Promise.all(found.map(async (kept) => ({
      id: kept.message.id,
      from: kept.message.reversePath,
      subject: await this.#subject(kept),
      receivedAt: iso(kept.message.receivedAt),
      failedAt: iso(kept.keptAt),
      size: kept.message.size,
      recipients: kept.recipients.map(({ address, status, reply }) => ({
        address,
        status: status as RecipientStatus,
        reply,
      })),
    })));
    return { messages, ...(cursor === undefined ? {} : { cursor }) };
  }

  replay(id: string, by: string): Promise<CommandResult> {
    return this.#onKept("dead", "replay", id, by);
  }

  purge(id: string, by: string): Promise<CommandResult> {
    return this.#onKept("dead", "purge", id, by);
  }

  async pipelines(): Promise<readonly PipelineView[]> {
    const views: PipelineView[] = [];
    for await (const { value } of this.#kv.list({ prefix: ["status"] })) {
      const status = decodeRecord<NodeStatus>(value).value;
      if (this.#context.clock.now() - status.at < 15_000) views.push(...status.pipelines);
    }
    return views;
  }

  async #onKept(kind: KeptKind, order: OrderKind, id: string, by: string): Promise<CommandResult> {
    if (shardOf(id) === undefined || (await findKept(this.#kv, id))?.kind !== kind) return "not found";
    return await this.#order(order, id, by);
  }

  /** Leaves an order with the owner and waits a moment for its end. */
  async #order(kind: OrderKind, id: string, by: string, wait = true): Promise<CommandResult> {
    const { ids, clock } = this.#context;
    const row = orderRow({ kind, id, by }, ids.stamp(clock.now()));
    await commit(this.#context, { shard: shardOfMessage(id), mutations: [row], fenced: false });
    if (!wait) return "accepted";
    this.#wake();
    const end = clock.monotonic() + ORDER_WAIT;
    while (clock.monotonic() < end) {
      if ((await this.#kv.get(row.key)).value === null) return "applied";
      await clock.sleep(ORDER_POLL);
    }
    return "accepted";
  }

  /** Newest first over all shards. */
  async #keptPage(
    kind: KeptKind,
    { limit, cursor }: Page,
  ): Promise<{ found: KeptMessage[]; cursor?: string }> {
    const all: KeptMessage[] = [];
    const after = cursor === undefined ? undefined : timeAndId(cursor);
    for (let s = 0; s < SHARDS; s++) {
      let count = 0;
      for await (
        const { value } of this.#kv.list({ prefix: ["kept", kind, s] }, { reverse: true, batchSize: 20 })
      ) {
        const { kept } = decodeKept(value);
        const { id } = kept.message;
        if (after && (timeOf(id) > after.time || (timeOf(id) === after.time && id >= after.id))) continue;
        all.push(kept);
        if (++count > limit) break;
      }
    }
    all.sort((a, b) => timeOf(b.message.id) - timeOf(a.message.id) || (a.message.id < b.message.id ? 1 : -1));
    const found = all.slice(0, limit);
    const last = found.at(-1)?.message.id;
    return { found, ...(all.length > limit && last !== undefined ? { cursor: last } : {}) };
  }

  async #subject({ message, chunks }: KeptMessage): Promise<string> {
    const kept = await findKept(this.#kv, message.id);
    const body = kept?.body;
    const header = await readHeader(
      readBody(this.#kv, { message, chunks, ...(body ? { body } : {}) }),
      HEADER_MAX,
    );
    return decodeHeaderText(fieldValue(parseHeader(header), "subject") ?? "");
  }
}

const ORDERS: Record<DomainSort, (a: QueueFigures, b: QueueFigures) => number> = {
  waiting: (a, b) => waiting(b) - waiting(a) || (a.queue < b.queue ? -1 : 1),
  oldest: (a, b) => timeOf(a.oldest ?? "") - timeOf(b.oldest ?? "") || (a.queue < b.queue ? -1 : 1),
  domain: (a, b) => a.queue < b.queue ? -1 : 1,
};

function waiting({ scheduled, ready, inFlight, held }: QueueFigures): number {
  return scheduled + ready + inFlight + held;
}

function timeAndId(id: string): { time: number; id: string } {
  return { time: timeOf(id), id };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
