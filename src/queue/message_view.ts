/** One message as the API shows it: its open envelopes, and what history says of everyone else. */
import type {
  AdminEvent,
  AttemptEvent,
  QueueEvent,
  ReceivedEvent,
  RecipientStatus,
} from "../telemetry/event.ts";
import {
  type AttemptView,
  type MessageView,
  type OrderView,
  overallStatus,
  type RecipientView,
} from "./api.ts";
import type { Envelope } from "./model.ts";
import type { KeptMessage, StoredMessage } from "./rows.ts";

/** Everything the store knows of a message. */
export interface MessageFacts {
  readonly stored: StoredMessage | undefined;
  readonly envelopes: readonly Envelope[];
  readonly events: readonly QueueEvent[];
  readonly kept: KeptMessage | undefined;
}

/** Undefined when nothing is known of the message (any more). */
export function messageView(id: string, facts: MessageFacts): MessageView | undefined {
  const { stored, envelopes, events, kept } = facts;
  const received = events.find((event) => event.type === "received") as ReceivedEvent | undefined;
  const message = stored?.message ?? kept?.message;
  if (!received && !message) return undefined;
  const recipients = new Map<string, Draft>();
  const draft = (address: string) => {
    let found = recipients.get(address);
    if (!found) recipients.set(address, found = { address, status: "queued", attempts: [] });
    return found;
  };
  for (const event of events) {
    if (event.type === "received") {
      for (const address of event.to) draft(address);
    }
  }
  const orders: OrderView[] = [];
  for (const event of events) {
    if (isAttempt(event)) {
      const each = draft(event.to);
      each.status = event.type;
      each.attempts.push(attemptView(event));
    } else if (isAdmin(event)) {
      orders.push({ at: iso(event.at), type: event.type, by: event.by, to: event.to });
      if (event.type === "cancelled") { for (const address of event.to) draft(address).status = "cancelled"; }
    }
  }
  for (const { address, status } of kept?.recipients ?? []) draft(address).status = status as RecipientStatus;
  for (const envelope of envelopes) {
    for (const recipient of envelope.recipients) {
      const each = draft(recipient.address);
      each.status = recipient.status;
      each.queue = envelope.queue;
      if (recipient.status !== "held") each.nextAttemptAt = iso(envelope.at);
    }
  }
  const views: RecipientView[] = [...recipients.values()];
  const messageId = message?.headerMessageId ?? received?.messageId;
  const client = message?.source.client ?? received?.client;
  const user = message?.source.user ?? received?.user;
  const reportOf = message?.report?.of ?? received?.reportOf;
  return {
    id,
    from: message?.reversePath ?? received!.from,
    status: overallStatus(views),
    receivedAt: iso(message?.receivedAt ?? received!.at),
    ...(stored ? { expiresAt: iso(stored.message.expiresAt) } : {}),
    size: message?.size ?? received!.size,
    ...(messageId ? { messageId } : {}),
    protocol: message?.source.protocol ?? received!.protocol,
    ...(client ? { client } : {}),
    ...(user ? { user } : {}),
    ...(reportOf ? { reportOf } : {}),
    recipients: views,
    ...(orders.length > 0 ? { orders } : {}),
    ...(stored || kept ? { contentKept: true } : {}),
  };
}

interface Draft {
  address: string;
  status: RecipientStatus;
  attempts: AttemptView[];
  nextAttemptAt?: string;
  queue?: string;
}

function isAttempt(event: QueueEvent): event is AttemptEvent {
  return ["delivered", "deferred", "failed", "expired"].includes(event.type);
}

function isAdmin(event: QueueEvent): event is AdminEvent {
  return ["held", "released", "retried", "cancelled"].includes(event.type);
}

function attemptView(event: AttemptEvent): AttemptView {
  return {
    at: iso(event.at),
    mx: event.mx ?? null,
    reply: event.reply,
    status: event.type,
    ...(event.reason ? { reason: event.reason } : {}),
  };
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
