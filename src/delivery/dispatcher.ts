/** Sends each queue that has something to do to its lane, its mailbox, or the captured mail. */
import type { Claim, Outcome, QueueName } from "../queue/model.ts";
import { parseNextHop } from "../queue/next_hop.ts";
import type { LaneContext } from "./context.ts";
import { Lane } from "./lane.ts";
import type { Maildir } from "./maildir.ts";
import { findSite, NoRoute, type Site } from "./route.ts";
import { settleClaim } from "./settle.ts";
import { Window } from "./window.ts";

/** Sites whose feedback is remembered. */
const MAX_WINDOWS = 20_000;
/** Local deliveries at one time. */
const MAX_LOCAL = 16;
/** A route found is used this long before DNS (and its cache) is asked again, in milliseconds. */
const ROUTE_TTL = 30_000;
const MAX_ROUTES = 20_000;
const FIRST_DNS_PAUSE = 1_000;
/** Envelopes to a domain that takes no mail that are failed at one time, so that they share commits. */
const MAX_FAILING = 50;

interface KnownRoute {
  readonly site: Site;
  readonly until: number;
}

/** The dispatcher of one process. */
export class Dispatcher {
  readonly #context: LaneContext;
  readonly #maildir: Maildir;
  readonly #lanes = new Map<string, Lane>();
  readonly #windows = new Map<string, Window>();
  readonly #routes = new Map<QueueName, KnownRoute>();
  readonly #routing = new Set<QueueName>();
  readonly #dnsFailures = new Map<QueueName, number>();
  readonly #local = new Map<QueueName, number>();
  #localRunning = 0;
  #drained: (() => void)[] = [];
  #closing = false;

  constructor(context: LaneContext, maildir: Maildir) {
    this.#context = context;
    this.#maildir = maildir;
    context.work.onReady((queue) => this.#ready(queue));
  }

  /** Lanes that are open now. */
  get lanes(): Iterable<Lane> {
    return this.#lanes.values();
  }

  /** Starts nothing more; resolves when everything that runs has ended. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#lanes.values()].map((lane) => lane.close()));
    while (this.#localRunning > 0 || this.#routing.size > 0) {
      await new Promise<void>((resolve) => this.#drained.push(resolve));
    }
  }

  #ready(queue: QueueName): void {
    if (this.#closing) return;
    const hop = parseNextHop(queue);
    if (hop.kind === "local" || hop.kind === "capture") return this.#pumpLocal(queue);
    const known = this.#routes.get(queue);
    if (known && known.until > this.#context.clock.monotonic()) return this.#lane(known.site).ready(queue);
    if (!this.#routing.has(queue)) void this.#route(queue);
  }

  async #route(queue: QueueName): Promise<void> {
    this.#routing.add(queue);
    try {
      const site = await findSite(parseNextHop(queue), this.#context.route, this.#context.signal);
      this.#dnsFailures.delete(queue);
      this.#routes.delete(queue);
      this.#routes.set(queue, { site, until: this.#context.clock.monotonic() + ROUTE_TTL });
      if (this.#routes.size > MAX_ROUTES) this.#routes.delete(this.#routes.keys().next().value!);
      if (!this.#closing) this.#lane(site).ready(queue);
    } catch (error) {
      if (error instanceof NoRoute) await this.#noRoute(queue, error.outcome);
      else if (!this.#context.signal.aborted) {
        this.#context.log.error("routing failed", { queue, error: text(error) });
        this.#context.work.pause(queue, 60_000);
      }
    } finally {
      this.#routing.delete(queue);
      this.#wakeClosing();
    }
  }

  /** A domain that can't get mail fails everyone in its queue; one that can't be looked up is left alone a while. */
  async #noRoute(queue: QueueName, outcome: Outcome): Promise<void> {
    const { work, random } = this.#context;
    const temporary = outcome.kind === "deferred";
    const atOnce = temporary ? 1 : MAX_FAILING;
    const failing = new Set<Promise<void>>();
    while (!this.#closing) {
      const claim = work.take(queue, atOnce);
      if (!claim) break;
      const settled = this.#settle(claim, claim.envelope.recipients.map(() => outcome))
        .finally(() => failing.delete(settled));
      failing.add(settled);
      if (temporary) break;
      if (failing.size >= MAX_FAILING) await Promise.race(failing);
    }
    await Promise.all(failing);
    if (!temporary) return;
    const failures = this.#dnsFailures.get(queue) ?? 0;
    this.#dnsFailures.set(queue, failures + 1);
    if (this.#dnsFailures.size > MAX_ROUTES) this.#dnsFailures.delete(this.#dnsFailures.keys().next().value!);
    work.pause(queue, Math.min(60_000, FIRST_DNS_PAUSE * 2 ** failures) * (0.75 + random() / 2));
  }

  #lane(site: Site): Lane {
    let lane = this.#lanes.get(site.name);
    if (!lane) {
      let window = this.#windows.get(site.name);
      if (!window) {
        this.#windows.set(site.name, window = new Window());
        if (this.#windows.size > MAX_WINDOWS) this.#windows.delete(this.#windows.keys().next().value!);
      }
      lane = new Lane(site, window, this.#context, (idle) => {
        if (this.#lanes.get(site.name) === idle) this.#lanes.delete(site.name);
      });
      this.#lanes.set(site.name, lane);
    }
    return lane;
  }

  #pumpLocal(queue: QueueName): void {
    const { work } = this.#context;
    while (!this.#closing && (this.#local.get(queue) ?? 0) < MAX_LOCAL) {
      const claim = work.take(queue, MAX_LOCAL * 2);
      if (!claim) return;
      this.#local.set(queue, (this.#local.get(queue) ?? 0) + 1);
      this.#localRunning++;
      void this.#deliverLocal(queue, claim);
    }
  }

  async #deliverLocal(queue: QueueName, claim: Claim): Promise<void> {
    const capture = parseNextHop(queue).kind === "capture";
    const outcomes = capture
      ? claim.envelope.recipients.map(() => CAPTURED)
      : await this.#maildir.deliver(claim);
    await this.#settle(claim, outcomes);
    const left = this.#local.get(queue)! - 1;
    if (left > 0) this.#local.set(queue, left);
    else this.#local.delete(queue);
    this.#localRunning--;
    this.#wakeClosing();
    this.#pumpLocal(queue);
  }

  async #settle(claim: Claim, outcomes: readonly Outcome[]): Promise<void> {
    if (await settleClaim(this.#context, claim, outcomes)) this.#context.finished(outcomes, 0);
  }

  #wakeClosing(): void {
    for (const wake of this.#drained.splice(0)) wake();
  }
}

const CAPTURED: Outcome = {
  kind: "delivered",
  scope: "recipient",
  status: "2.0.0",
  reply: "captured; nothing is sent in dev mode",
  fromRemote: false,
  captured: true,
};

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
