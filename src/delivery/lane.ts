/** One lane: everything for one site. Its connections are kept and take turns among the site's queues. */
import type { Claim, Outcome, QueueName, Work } from "../queue/model.ts";
import type { Log } from "../telemetry/log.ts";
import { connectOutcome, outcomeOf } from "./classify.ts";
import { connectSmtp, SmtpClientError, type SmtpConnection, type Timeouts } from "./client.ts";
import { findAddresses, type Host, NoRoute, type RouteOptions, type Site } from "./route.ts";
import type { PlaintextHosts } from "./plaintext_hosts.ts";
import { type OutgoingMail, sendMail } from "./transaction.ts";
import { CEILING, type Window } from "./window.ts";

/** A connection that waits for more is kept this long, in milliseconds. */
const IDLE = 5_000;
/** Messages over one connection at most. */
const MAX_MESSAGES = 1_000;
/** Settles of one lane that wait for their commit at most: more means the store is slower than the network. */
const MAX_SETTLING = 200;
/** Connection attempts for one message at most, over all hosts and addresses. */
const MAX_ATTEMPTS = 10;

/** What the lanes of one process share. */
export interface LaneContext {
  readonly work: Work;
  readonly log: Log;
  readonly hostname: string;
  readonly route: RouteOptions;
  readonly random: () => number;
  readonly plaintext: PlaintextHosts;
  readonly timeouts: Timeouts;
  /** Aborts when connections must end now. */
  readonly signal: AbortSignal;
  /** Global bound of connections. */
  mayConnect(): boolean;
  connected(change: 1 | -1): void;
  /** Connections past EHLO, so that they can be broken off. */
  readonly open: Set<SmtpConnection>;
  finished(outcomes: readonly Outcome[], seconds: number): void;
}

/** Connections of one site. */
export class Lane {
  readonly #context: LaneContext;
  readonly #queues: QueueName[] = [];
  #next = 0;
  /** Until then (monotonic) the site is left alone. */
  #pausedUntil = 0;
  #workers = 0;
  #idle: ((claim: Claim | undefined) => void)[] = [];
  #settling = 0;
  #settled: (() => void)[] = [];
  #closing = false;
  readonly startedAt: number;
  /** Last trouble, for the status. */
  problem: string | undefined;

  constructor(
    readonly site: Site,
    readonly window: Window,
    context: LaneContext,
    now: number,
    readonly onIdle: (lane: Lane) => void,
  ) {
    this.#context = context;
    this.startedAt = now;
  }

  get connections(): number {
    return this.#workers;
  }

  /** Something of `queue` can be taken. */
  ready(queue: QueueName): void {
    if (!this.#queues.includes(queue)) this.#queues.push(queue);
    this.pump();
  }

  /** Puts idle connections to work, and opens new ones as far as the window allows. */
  pump(): void {
    while (!this.#closing && (this.#idle.length > 0 || this.#mayGrow())) {
      const claim = this.#take();
      if (!claim) return;
      const waiting = this.#idle.pop();
      if (waiting) waiting(claim);
      else void this.#run(claim);
    }
  }

  /** Ends idle connections; busy ones end after their transaction. Resolves when all have ended. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const waiting of this.#idle.splice(0)) waiting(undefined);
    while (this.#workers > 0) await new Promise<void>((resolve) => this.#settled.push(resolve));
  }

  #mayGrow(): boolean {
    return this.#workers < this.window.size && this.#context.mayConnect();
  }

  /** The next envelope, the queues taking turns. */
  #take(): Claim | undefined {
    const { work } = this.#context;
    for (let i = 0; i < this.#queues.length;) {
      const at = this.#next % this.#queues.length;
      const queue = this.#queues[at]!;
      // Enough for every connection to have one in hand and one waiting.
      const claim = work.take(queue, this.window.failures > 0 ? 1 : CEILING * 2);
      if (claim) {
        this.#next = at + 1;
        return claim;
      }
      if (work.hasWork(queue)) {
        this.#next = at + 1;
        i++;
      } else this.#queues.splice(at, 1);
    }
    return undefined;
  }

  /** One connection, from its first message to its end. */
  async #run(first: Claim): Promise<void> {
    this.#workers++;
    this.#context.connected(1);
    let connection: SmtpConnection | undefined;
    try {
      let claim: Claim | undefined = first;
      let sent = 0;
      while (claim) {
        if (connection && (!connection.usable || sent >= MAX_MESSAGES)) {
          await this.#quit(connection);
          connection = undefined;
          sent = 0;
        }
        connection ??= await this.#connect(claim);
        if (!connection) return;
        this.#context.open.add(connection);
        await this.#deliver(connection, claim);
        sent++;
        claim = connection.usable || !this.#closing ? await this.#nextClaim() : undefined;
      }
    } catch (error) {
      this.#context.log.error("lane failed", { site: this.site.name, error: text(error) });
    } finally {
      if (connection) await this.#quit(connection);
      this.#workers--;
      this.#context.connected(-1);
      for (const wake of this.#settled.splice(0)) wake();
      if (this.#workers === 0) this.onIdle(this);
      else this.pump();
    }
  }

  async #quit(connection: SmtpConnection): Promise<void> {
    await connection.quit();
    this.#context.open.delete(connection);
  }

  async #nextClaim(): Promise<Claim | undefined> {
    while (this.#settling >= MAX_SETTLING) await new Promise<void>((resolve) => this.#settled.push(resolve));
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

  /** Connects to the first host that takes us. Undefined: none did, the claim is settled and the site left alone. */
  async #connect(claim: Claim): Promise<SmtpConnection | undefined> {
    let failure: { outcome: Outcome } | undefined;
    let attempts = 0;
    for (const host of this.site.hosts) {
      let addresses: string[];
      try {
        addresses = await findAddresses(host, this.#context.route, this.#context.signal);
      } catch (error) {
        if (!(error instanceof NoRoute)) throw error;
        // A host that can't be used says less than one that could not be reached.
        failure ??= error;
        continue;
      }
      for (const address of addresses) {
        if (attempts++ >= MAX_ATTEMPTS) break;
        try {
          return await this.#open(host, address);
        } catch (error) {
          if (!(error instanceof SmtpClientError)) throw error;
          failure = { outcome: connectOutcome(error, host.name) };
          this.#context.log.info("connect failed", {
            id: claim.message.id,
            queue: claim.envelope.queue,
            mx: host.name,
            address,
            stage: error.stage,
            reply: error.message,
          });
        }
      }
    }
    await this.#giveUp(claim, failure?.outcome);
    return undefined;
  }

  async #open(host: Host, address: string): Promise<SmtpConnection> {
    const { hostname, plaintext, timeouts, signal } = this.#context;
    const key = `${host.name}:${host.port}`;
    const options = { host: host.name, address, port: host.port, hostname, timeouts, signal };
    const clear = plaintext.has(key);
    try {
      return await connectSmtp({ ...options, tls: clear ? "never" : "opportunistic" });
    } catch (error) {
      if (!(error instanceof SmtpClientError) || error.stage !== "tls" || clear || signal.aborted) {
        throw error;
      }
      // Opportunistic TLS that breaks is worse than none: once more in the clear, and remembered (RFC 7435).
      this.#context.log.warn("tls failed, falling back to the clear", {
        mx: host.name,
        reply: error.message,
      });
      plaintext.add(key);
      return await connectSmtp({ ...options, tls: "never" });
    }
  }

  async #giveUp(claim: Claim, outcome: Outcome | undefined): Promise<void> {
    const { work, signal } = this.#context;
    if (!outcome || signal.aborted) return work.release(claim, "shutdown");
    this.problem = outcome.reply;
    if (outcome.kind === "deferred") this.#pause(claim.envelope.queue);
    await this.#settle(claim, claim.envelope.recipients.map(() => outcome), 0);
  }

  /** Leaves the site alone. Connections that fail at the same time count as one failure. */
  #pause(queue: QueueName): void {
    const { work, random } = this.#context;
    const now = performance.now();
    if (this.#pausedUntil <= now) this.#pausedUntil = now + this.window.failed(random);
    const queues = new Set([...this.#queues.splice(0), queue]);
    for (const each of queues) work.pause(each, this.#pausedUntil - now);
  }

  async #deliver(connection: SmtpConnection, claim: Claim): Promise<void> {
    const began = performance.now();
    const results = await sendMail(connection, outgoing(claim));
    const outcomes = results.map((result) => outcomeOf(result, connection.host));
    const { log } = this.#context;
    log.debug("attempt", {
      id: claim.message.id,
      queue: claim.envelope.queue,
      mx: connection.host,
      address: connection.address,
      tls: connection.tls?.protocol ?? "none",
      reply: outcomes[0]?.reply,
    });
    if (outcomes.some(({ reason }) => reason === "in doubt")) {
      log.warn("in doubt", { id: claim.message.id, mx: connection.host, reply: outcomes[0]?.reply });
    }
    if (outcomes.some(({ kind, scope }) => kind === "delivered" || scope === "recipient")) {
      this.window.succeeded();
    } else if (outcomes.every(({ scope, kind }) => scope === "destination" && kind === "deferred")) {
      const pause = this.window.failed(this.#context.random);
      for (const queue of new Set([...this.#queues, claim.envelope.queue])) {
        this.#context.work.pause(queue, pause);
      }
    }
    void this.#settle(claim, outcomes, (performance.now() - began) / 1000);
  }

  /** Never throws: what can't be recorded goes back as it was. */
  async #settle(claim: Claim, outcomes: readonly Outcome[], seconds: number): Promise<void> {
    this.#settling++;
    try {
      await this.#context.work.settle(claim, outcomes);
      this.#context.finished(outcomes, seconds);
    } catch (error) {
      this.#context.log.error("settle failed", { id: claim.message.id, error: text(error) });
      this.#context.work.release(claim, "local fault");
    } finally {
      this.#settling--;
      for (const wake of this.#settled.splice(0)) wake();
    }
  }
}

/** A claim as the SMTP client sends it. */
export function outgoing(claim: Claim): OutgoingMail {
  const { message, envelope } = claim;
  return {
    reversePath: message.reversePath,
    recipients: envelope.recipients.map(({ address, notify, orcpt }) => ({
      address,
      ...(notify || orcpt !== undefined
        ? { parameters: { ...(notify ? { notify } : {}), ...(orcpt === undefined ? {} : { orcpt }) } }
        : {}),
    })),
    size: claim.size,
    body: claim.body,
    smtpUtf8: message.smtpUtf8,
    requireTls: message.requireTls,
    ...(message.ret ? { ret: message.ret } : {}),
    ...(message.envid === undefined ? {} : { envid: message.envid }),
    bytes: claim.bytes,
    content: () => claim.content(),
  };
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
