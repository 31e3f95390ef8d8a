/** A connection to the first host of a site that takes us: next address, next host, without TLS where that is broken. */
import type { Claim, Outcome } from "../queue/model.ts";
import { connectOutcome } from "./classify.ts";
import { connectSmtp, SmtpClientError, type SmtpConnection } from "./client.ts";
import type { LaneContext } from "./context.ts";
import { type Host, type Site, type Target, targetsOf } from "./route.ts";

/** Connection attempts for one message at most, over all hosts and addresses. */
const MAX_ATTEMPTS = 10;

/** A connection, or what became of everyone where there is none. */
export interface Opened {
  readonly connection?: SmtpConnection;
  readonly failure?: Outcome;
}

/** Tries the hosts of `site` in order; those that could not be reached a moment ago come last. */
export async function openConnection(site: Site, context: LaneContext, claim: Claim): Promise<Opened> {
  const attempts = new Attempts(context, claim);
  const later: Target[] = [];
  for await (const target of targetsOf(site, context.route, context.signal)) {
    if ("address" in target && context.unreachable.has(addressKey(target))) later.push(target);
    else if (await attempts.next(target)) return attempts.result();
  }
  for (const target of later) if (await attempts.next(target)) break;
  return attempts.result();
}

class Attempts {
  readonly #context: LaneContext;
  readonly #claim: Claim;
  #count = 0;
  #connection: SmtpConnection | undefined;
  #failure: Outcome | undefined;

  constructor(context: LaneContext, claim: Claim) {
    this.#context = context;
    this.#claim = claim;
  }

  result(): Opened {
    if (this.#connection) return { connection: this.#connection };
    return this.#failure ? { failure: this.#failure } : {};
  }

  /** True when it is over: there is a connection, or there have been attempts enough. */
  async next(target: Target): Promise<boolean> {
    const { signal, unreachable } = this.#context;
    if (signal.aborted || this.#count >= MAX_ATTEMPTS) return true;
    if ("problem" in target) {
      this.#failed(target.problem.outcome);
      return false;
    }
    this.#count++;
    try {
      this.#connection = await open(this.#context, target.host, target.address);
      unreachable.delete(addressKey(target));
      return true;
    } catch (error) {
      if (!(error instanceof SmtpClientError)) throw error;
      if (!signal.aborted) this.#refused(target, error);
      return signal.aborted;
    }
  }

  #refused({ host, address }: { host: Host; address: string }, error: SmtpClientError): void {
    const { log, unreachable } = this.#context;
    this.#failed(connectOutcome(error, host.name));
    if (error.stage === "connect" && error.fault !== "local") unreachable.add(addressKey({ host, address }));
    log.info("connect failed", {
      id: this.#claim.message.id,
      queue: this.#claim.envelope.queue,
      mx: host.name,
      address,
      stage: error.stage,
      reply: error.message,
    });
  }

  /**
   * While one host may still work some day, nobody is given up; and a host that was there but refused says more than
   * one without an address.
   */
  #failed(outcome: Outcome): void {
    const before = this.#failure;
    if (before?.kind === "deferred" && (outcome.kind === "failed" || !outcome.remoteMta)) return;
    this.#failure = outcome;
  }
}

async function open(context: LaneContext, host: Host, address: string): Promise<SmtpConnection> {
  const { hostname, plaintext, timeouts, signal, log } = context;
  const key = `${host.name}:${host.port}`;
  const options = { host: host.name, address, port: host.port, hostname, timeouts, signal };
  const clear = plaintext.has(key);
  try {
    return await connectSmtp({ ...options, tls: clear ? "never" : "opportunistic" });
  } catch (error) {
    if (!(error instanceof SmtpClientError) || error.stage !== "tls" || clear || signal.aborted) throw error;
    // Opportunistic TLS that breaks is worse than none: once more in the clear, and remembered (RFC 7435).
    log.warn("tls failed, falling back to the clear", { mx: host.name, address, reply: error.message });
    plaintext.add(key);
    return await connectSmtp({ ...options, tls: "never" });
  }
}

function addressKey({ host, address }: { readonly host: Host; readonly address: string }): string {
  return `${address}:${host.port}`;
}
