/** The delivery side of a queue in memory: what is offered, what came of it. */
import type { Claim, Message, Outcome, QueueName, Work } from "../../src/queue/model.ts";

/** What a test may say about an envelope; the rest is ordinary. */
export interface Offer {
  readonly recipients?: readonly string[];
  readonly content?: string | Uint8Array;
  readonly message?: Partial<Message>;
}

export interface Settled {
  readonly claim: Claim;
  readonly outcomes: readonly Outcome[];
}

export class FakeWork implements Work {
  readonly settled: Settled[] = [];
  readonly released: { readonly claim: Claim; readonly reason: string }[] = [];
  readonly pauses: { readonly queue: QueueName; readonly ms: number }[] = [];
  /** So many settles fail from now on. */
  failSettles = 0;
  deliver = true;
  taken = 0;
  readonly #queues = new Map<QueueName, Claim[]>();
  readonly #paused = new Set<QueueName>();
  #listener: (queue: QueueName) => void = () => {};
  #count = 0;

  /** Puts an envelope at hand and tells the listener. Returns its queue id. */
  offer(queue: QueueName, offer: Offer = {}): string {
    const id = `id${++this.#count}`;
    const claims = this.#queues.get(queue) ?? [];
    this.#queues.set(queue, claims);
    claims.push(makeClaim(id, queue, offer));
    if (!this.#paused.has(queue)) this.#listener(queue);
    return id;
  }

  /** Ends a pause, as time would. */
  resume(queue: QueueName): void {
    this.#paused.delete(queue);
    if (this.hasWork(queue)) this.#listener(queue);
  }

  waiting(queue: QueueName): number {
    return this.#queues.get(queue)?.length ?? 0;
  }

  /** Every outcome of a queue, as `kind status`. */
  outcomes(queue: QueueName): string[] {
    return this.settled.filter(({ claim }) => claim.envelope.queue === queue)
      .flatMap(({ outcomes }) => outcomes.map(({ kind, status }) => `${kind} ${status}`));
  }

  onReady(listener: (queue: QueueName) => void): void {
    this.#listener = listener;
  }

  take(queue: QueueName): Claim | undefined {
    if (this.#paused.has(queue) || !this.deliver) return undefined;
    const claim = this.#queues.get(queue)?.shift();
    if (claim) this.taken++;
    return claim;
  }

  hasWork(queue: QueueName): boolean {
    return this.deliver && !this.#paused.has(queue) && this.waiting(queue) > 0;
  }

  async settle(claim: Claim, outcomes: readonly Outcome[]): Promise<void> {
    await Promise.resolve();
    if (this.failSettles > 0) {
      this.failSettles--;
      throw new Error("the store is away");
    }
    this.settled.push({ claim, outcomes });
  }

  release(claim: Claim, reason: string): void {
    this.released.push({ claim, reason });
    this.#queues.get(claim.envelope.queue)!.unshift(claim);
    queueMicrotask(() => {
      if (this.hasWork(claim.envelope.queue)) this.#listener(claim.envelope.queue);
    });
  }

  pause(queue: QueueName, ms: number): void {
    this.pauses.push({ queue, ms });
    this.#paused.add(queue);
  }

  mayDeliver(): boolean {
    return this.deliver;
  }
}

/** A claim out of nowhere. */
export function makeClaim(id: string, queue: QueueName, offer: Offer = {}): Claim {
  const { recipients = ["user@d.test"], content = "Subject: hello\r\n\r\nbody\r\n" } = offer;
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const message: Message = {
    id,
    receivedAt: 0,
    expiresAt: Infinity,
    reversePath: "from@us.test",
    body: "7BIT",
    smtpUtf8: false,
    requireTls: false,
    size: bytes.length,
    source: { protocol: "ESMTP" },
    envelopes: 1,
    ...offer.message,
  };
  return {
    message,
    envelope: {
      id,
      n: 0,
      queue,
      band: 5,
      at: 0,
      recipients: recipients.map((address) => ({ address, status: "queued", attempts: 0 })),
    },
    size: bytes.length,
    bytes,
    body: message.body,
    content: () => ReadableStream.from([bytes]),
  };
}
