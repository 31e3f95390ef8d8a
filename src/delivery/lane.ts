/** One lane: everything for one site. Its connections are kept and take turns among the site's queues. */
import type { Claim, Outcome, QueueName } from "../queue/model.ts";
import { outcomeOf } from "./classify.ts";
import type { SmtpConnection } from "./client.ts";
import type { LaneContext } from "./context.ts";
import { outgoing, type RecipientResult } from "./mail.ts";
import { openConnection } from "./open.ts";
import type { Site } from "./route.ts";
import { settleClaim } from "./settle.ts";
import { sendMail } from "./transaction.ts";
import { CEILING, type Window } from "./window.ts";

/** A connection that waits for more is kept this long, in milliseconds. */
const IDLE = 5_000;
/** Messages over one connection at most. */
const MAX_MESSAGES = 1_000;
/** Settles of one lane that wait for their commit at most: more means the store is slower than the network. */
const MAX_SETTLING = 200;
/** Queues looked at for one claim at most: the others have their turn with the next. */
const MAX_LOOKS = 64;

/** Connections of one site. */
export class Lane {
  readonly #context: LaneContext;
  /** Queues that have something, taking turns from `#next` on. */
  readonly #queues: QueueName[] = [];
  readonly #listed = new Set<QueueName>();
  #next = 0;
  #workers = 0;
  /** Connections past EHLO. */
  readonly #connections = new Set<SmtpConnection>();
  #idle: ((claim: Claim | undefined) => void)[] = [];
  #settling = 0;
  #changed: (() => void)[] = [];
  #closing = false;
  readonly startedAt: number;
  /** Last trouble, for the status. */
  problem: string | undefined;

  constructor(
    readonly site: Site,
    readonly window: Window,
    context: LaneContext,
    readonly onIdle: (lane: Lane) => void,
  ) {
    this.#context = context;
    this.startedAt = context.clock.now();
  }

  get connections(): number {
    return this.#workers;
  }

  /** Something of `queue` can be taken. */
  ready(queue: QueueName): void {
    const pause = this.window.pauseLeft(this.#now());
    if (pause > 0) {
      this.#context.work.pause(queue, pause);
    } else if (!this.#listed.has(queue)) {
      this.#listed.add(queue);
      this.#queues.push(queue);
    }
    this.#pump();
    this.#checkIdle();
  }

  /** Ends idle connections; busy ones end after their transaction. Resolves when all is ended and recorded. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const waiting of this.#idle.splice(0)) waiting(undefined);
    while (this.#workers > 0 || this.#settling > 0) await this.#change();
  }

  /** Puts idle connections to work, and opens new ones as far as the window allows. */
  #pump(): void {
    while (!this.#closing && (this.#idle.length > 0 || this.#mayGrow())) {
      const claim = this.#take();
      if (!claim) return;
      const waiting = this.#idle.pop();
      if (waiting) waiting(claim);
      else void this.#run(claim);
    }
  }

  #mayGrow(): boolean {
    return this.#workers < this.window.size && this.#settling < MAX_SETTLING &&
      this.#context.mayConnect(this.window);
  }

  /** The next envelope, the queues taking turns. */
  #take(): Claim | undefined {
    const { work } = this.#context;
    const queues = this.#queues;
    for (let looks = 0; looks < MAX_LOOKS && queues.length > 0; looks++) {
      const at = this.#next % queues.length;
      const queue = queues[at]!;
      // Enough for every connection to have one in hand and one waiting.
      const claim = work.take(queue, this.window.proven ? CEILING * 2 : 1);
      this.#next = at + 1;
      if (claim) return claim;
      if (work.hasWork(queue)) continue;
      this.#listed.delete(queue);
      queues[at] = queues.at(-1)!;
      queues.pop();
      this.#next = at;
    }
    return undefined;
  }

  /** One connection, from its first message to its end. */
  async #run(first: Claim): Promise<void> {
    this.#workers++;
    this.#context.connected(1);
    const held: { claim: Claim | undefined; connection: SmtpConnection | undefined } = {
      claim: first,
      connection: undefined,
    };
    try {
      await this.#serve(held);
    } catch (error) {
      this.#context.log.error("lane failed", { site: this.site.name, error: text(error) });
      if (held.claim) this.#context.work.release(held.claim, "local fault");
    } finally {
      if (held.connection) await this.#quit(held.connection);
      this.#workers--;
      this.#context.connected(-1);
      this.#changes();
      this.#pump();
      this.#checkIdle();
    }
  }

  async #serve(held: { claim: Claim | undefined; connection: SmtpConnection | undefined }): Promise<void> {
    let sent = 0;
    while (held.claim) {
      const { claim } = held;
      if (held.connection && (!held.connection.usable || sent >= maxMessages(held.connection))) {
        await this.#quit(held.connection);
        held.connection = undefined;
      }
      if (!held.connection) {
        const { connection, failure } = await openConnection(this.site, this.#context, claim);
        if (!connection) {
          held.claim = undefined;
          return await this.#giveUp(claim, failure);
        }
        held.connection = connection;
        this.#context.open.add(connection);
        this.#connections.add(connection);
        sent = 0;
      }
      const began = this.#now();
      const results = await sendMail(held.connection, outgoing(claim));
      // A kept connection may have been closed by the other side just now: that says nothing of the message.
      if (sent > 0 && results.every(isStale) && !this.#context.signal.aborted) {
        held.connection.destroy();
        continue;
      }
      sent++;
      held.claim = undefined;
      this.#finish(held.connection, claim, results, began);
      held.claim = await this.#nextClaim();
    }
  }

  async #quit(connection: SmtpConnection): Promise<void> {
    this.#connections.delete(connection);
    await connection.quit();
    this.#context.open.delete(connection);
  }

  async #nextClaim(): Promise<Claim | undefined> {
    while (this.#settling >= MAX_SETTLING) await this.#change();
    if (this.#closing || this.#workers > this.window.size) return undefined;
    const claim = this.#take();
    if (claim) return claim;
    return await new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#idle = this.#idle.filter((each) => each !== waiting);
        resolve(undefined);
      }, IDLE);
      const waiting = (claim: Claim | undefined) => {
        clearTimeout(timer);
        resolve(claim);
      };
      this.#idle.push(waiting);
    });
  }

  /** No host took a connection. */
  async #giveUp(claim: Claim, outcome: Outcome | undefined): Promise<void> {
    const { work, signal } = this.#context;
    if (!outcome || signal.aborted) return work.release(claim, "shutdown");
    if (outcome.kind === "deferred" && this.#othersWork()) {
      // So it is this connection that is too many: the others will take its message.
      this.window.crowded(this.#workers - 1, this.#now());
      return work.release(claim, "backoff");
    }
    this.problem = outcome.reply;
    if (outcome.kind === "deferred") this.#pause(claim.envelope.queue);
    await this.#settle(claim, claim.envelope.recipients.map(() => outcome), 0);
  }

  /** Whether there is a connection that nothing is known against. */
  #othersWork(): boolean {
    for (const { broken } of this.#connections) if (!broken) return true;
    return false;
  }

  /** Leaves the site alone for a while. */
  #pause(queue: QueueName): void {
    const { work, random } = this.#context;
    const pause = this.window.failed(random, this.#now());
    this.#listed.clear();
    for (const each of new Set([...this.#queues.splice(0), queue])) work.pause(each, pause);
  }

  #finish(
    connection: SmtpConnection,
    claim: Claim,
    results: readonly RecipientResult[],
    began: number,
  ): void {
    const { log, signal, work } = this.#context;
    // Broken off by our own end before anything was decided: it was no attempt.
    if (signal.aborted && results.every(({ reply, inDoubt }) => !reply && !inDoubt)) {
      return work.release(claim, "shutdown");
    }
    const outcomes = results.map((result) => outcomeOf(result, connection.host));
    log.debug("attempt", {
      id: claim.message.id,
      queue: claim.envelope.queue,
      mx: connection.host,
      address: connection.address,
      tls: connection.tls?.protocol ?? "none",
      reply: outcomes[0]?.reply,
    });
    const doubtful = outcomes.find(({ reason }) => reason === "in doubt");
    if (doubtful) log.warn("in doubt", { id: claim.message.id, mx: connection.host, reply: doubtful.reply });
    if (outcomes.some(({ scope }) => scope === "destination")) {
      this.problem = outcomes.find(({ scope }) => scope === "destination")!.reply;
      // The other connections tell for themselves whether the whole host is in trouble.
      if (this.#othersWork()) this.window.crowded(this.#workers - 1, this.#now());
      else this.#pause(claim.envelope.queue);
    } else if (outcomes.some(({ fromRemote }) => fromRemote)) {
      this.window.succeeded(this.#now());
      if (this.#mayGrow()) this.#pump();
    }
    void this.#settle(claim, outcomes, (this.#now() - began) / 1000);
  }

  async #settle(claim: Claim, outcomes: readonly Outcome[], seconds: number): Promise<void> {
    this.#settling++;
    if (await settleClaim(this.#context, claim, outcomes)) this.#context.finished(outcomes, seconds);
    this.#settling--;
    this.#changes();
    this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#workers === 0 && this.#settling === 0 && this.#queues.length === 0) this.onIdle(this);
  }

  #now(): number {
    return this.#context.clock.monotonic();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve));
  }

  #changes(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

function maxMessages({ extensions }: SmtpConnection): number {
  return Math.min(MAX_MESSAGES, extensions.limits.mailMax ?? MAX_MESSAGES);
}

/** Lost, or told to go away, at the first command. */
function isStale({ stage, reply, fault }: RecipientResult): boolean {
  return stage === "mail" && (reply ? reply.code === 421 : fault === "closed" || fault === "network");
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
