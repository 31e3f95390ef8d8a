/** From what the next host said, or did not say, to the outcome of a recipient. */
import type { Outcome } from "../queue/model.ts";
import { formatReply, type Reply } from "../smtp/reply.ts";
import type { SmtpClientError, Stage } from "./client.ts";
import { isTooMany, type RecipientResult } from "./mail.ts";

/** Outcome of one recipient's result at `host`. */
export function outcomeOf(result: RecipientResult, host: string): Outcome {
  const { reply, accepted } = result;
  const remote = { remoteMta: host, fromRemote: reply !== undefined };
  if (accepted) {
    return {
      kind: "delivered",
      scope: "recipient",
      reply: formatReply(reply!),
      status: statusOf(reply!),
      ...(result.dsnPassedOn ? { dsnPassedOn: true } : {}),
      ...remote,
    };
  }
  if (reply) {
    const permanent = reply.code >= 500 && !isTooMany(result);
    return {
      kind: permanent ? "failed" : "deferred",
      scope: scopeOf(result.stage, reply),
      reply: formatReply(reply),
      status: permanent ? statusOf(reply) : temporary(statusOf(reply)),
      ...remote,
      ...(permanent ? {} : { reason: "remote 4xx" as const }),
    };
  }
  if (result.permanent) {
    return {
      kind: "failed",
      scope: "message",
      reply: result.problem!,
      status: result.status ?? "5.0.0",
      ...remote,
    };
  }
  const problem = result.problem ?? "no reply";
  return {
    kind: "deferred",
    scope: "message",
    reply: result.inDoubt
      ? `${problem} after the message was sent; it may have arrived, and is sent again`
      : problem,
    status: result.fault === "local" ? "4.3.0" : "4.4.2",
    ...remote,
    reason: result.inDoubt ? "in doubt" : result.fault === "local" ? "local fault" : "network",
  };
}

/**
 * Outcome for everyone when no host could be talked to. A refusal in the greeting is a host's trouble, not a verdict
 * on the recipients, so even a 5xx there is tried again until the queue lifetime ends.
 */
export function connectOutcome(error: SmtpClientError, host: string): Outcome {
  const { reply, fault } = error;
  return {
    kind: "deferred",
    scope: "destination",
    reply: error.message,
    status: reply ? temporary(statusOf(reply)) : fault === "tls" ? "4.7.5" : "4.4.1",
    fromRemote: reply !== undefined,
    remoteMta: host,
    reason: reply ? "remote 4xx" : fault === "tls" ? "tls" : fault === "local" ? "local fault" : "network",
  };
}

/** Enhanced status of a reply, made from its code where it has none (RFC 3463 §3.1 for the class alone). */
export function statusOf({ code, status }: Reply): string {
  return status ?? `${Math.floor(code / 100)}.0.0`;
}

function temporary(status: string): string {
  return status.replace(/^[235]/, "4");
}

/** What else a refusal stops: 421 the whole host, MAIL and the content the message, RCPT its recipient. */
function scopeOf(stage: Stage, reply: Reply): Outcome["scope"] {
  if (reply.code === 421) return "destination";
  return stage === "rcpt" ? "recipient" : "message";
}
