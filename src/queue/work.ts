/** The queue as the delivery side sees it. */
import { readBody, readContent } from "./body.ts";
import type { ActiveQueues } from "./active.ts";
import type { ReadyEnvelope } from "./active_queue.ts";
import type { QueueContext } from "./context.ts";
import type { RequeueReason } from "../telemetry/event.ts";
import type { BodyType, Claim, Envelope, Message, Outcome, QueueName, Work } from "./model.ts";
import { type RenderedReport, renderReport } from "../message/report.ts";
import { expiredOutcome, type Settle } from "./settle.ts";

/** Hands out claims and takes their outcomes. */
export class QueueWork implements Work {
  readonly #context: QueueContext;
  readonly #active: ActiveQueues;
  readonly #settle: Settle;
  #open = true;

  constructor(context: QueueContext, active: ActiveQueues, settle: Settle) {
    this.#context = context;
    this.#active = active;
    this.#settle = settle;
  }

  onReady(listener: (queue: QueueName) => void): void {
    this.#active.onReady(listener);
  }

  take(queue: QueueName, want: number): Claim | undefined {
    if (!this.mayDeliver()) return undefined;
    for (;;) {
      const ready = this.#active.take(queue, want);
      if (!ready) return undefined;
      if (ready.message.expiresAt > this.#context.clock.now()) return new QueueClaim(this.#context, ready);
      void this.#expire(ready);
    }
  }

  hasWork(queue: QueueName): boolean {
    return this.mayDeliver() && this.#active.hasWork(queue);
  }

  settle(claim: Claim, outcomes: readonly Outcome[]): Promise<void> {
    return this.#settle.settle((claim as QueueClaim).ready, outcomes);
  }

  release(claim: Claim, reason: RequeueReason): void {
    const { ready } = claim as QueueClaim;
    this.#context.log.debug("requeued", { id: ready.message.id, queue: ready.envelope.queue, reason });
    this.#active.giveBack(ready);
  }

  pause(queue: QueueName, ms: number): void {
    this.#active.pause(queue, ms);
  }

  mayDeliver(): boolean {
    return this.#open && this.#context.session.alive;
  }

  /** Hands out nothing from now on. */
  stop(): void {
    this.#open = false;
  }

  async #expire(ready: ReadyEnvelope): Promise<void> {
    try {
      await this.#settle.settle(ready, ready.envelope.recipients.map(expiredOutcome));
    } catch (error) {
      this.#context.log.error("expiry failed", {
        id: ready.message.id,
        error: error instanceof Error ? error.message : String(error),
      });
      this.#active.giveBack(ready);
    }
  }
}

class QueueClaim implements Claim {
  readonly #context: QueueContext;
  #rendered: RenderedReport | undefined;

  constructor(context: QueueContext, readonly ready: ReadyEnvelope) {
    this.#context = context;
    const { report } = ready.message;
    if (report) {
      this.#rendered = renderReport(report, {
        hostname: context.settings.hostname,
        from: ready.envelope.recipients[0]!.address,
        date: ready.message.receivedAt,
        queueId: ready.message.id,
      });
    }
  }

  get message(): Message {
    return this.ready.message;
  }

  get envelope(): Envelope {
    return this.ready.envelope;
  }

  get bytes(): Uint8Array | undefined {
    return this.ready.bytes;
  }

  /** A report with the whole original in it is as large as that. */
  get size(): number {
    if (!this.#rendered) return this.ready.message.size;
    return this.#rendered.head.length + this.#rendered.tail.length;
  }

  get body(): BodyType {
    return this.#rendered ? this.#rendered.body : this.ready.message.body;
  }

  async *content(): AsyncIterable<Uint8Array> {
    const { reader } = this.#context.store;
    const { message, chunks, bytes } = this.ready;
    const rendered = this.#rendered;
    if (!rendered) {
      if (bytes) yield bytes;
      else yield* readBody(reader, { message, chunks });
      return;
    }
    yield rendered.head;
    if (rendered.includesOriginal) {
      const original = await readContent(reader, message.report!.of);
      if (original) yield* original;
    }
    yield rendered.tail;
  }
}
