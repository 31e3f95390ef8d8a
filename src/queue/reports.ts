/** Decides delivery reports (RFC 3461 §6): small records in the commit of what they report, rendered when sent. */
import { domainOf } from "../smtp/address.ts";
import type { Mutation } from "../kv/writer.ts";
import type { ReceivedEvent } from "../telemetry/event.ts";
import { receivedEvent } from "./accept.ts";
import type { QueueContext } from "./context.ts";
import type { Envelope, Message, Outcome, Recipient, Report, ReportedRecipient } from "./model.ts";
import { formatNextHop } from "./next_hop.ts";
import { jsonSize, ROW_MAX, setDue, setMessage, shardOfMessage } from "./rows.ts";

/** A recipient about whom the sender is told. */
export interface Reportable {
  readonly recipient: Recipient;
  readonly action: Report["action"];
  readonly outcome: Outcome;
}

/** A report as a message of its own. */
export interface ReportRows {
  readonly message: Message;
  readonly envelope: Envelope;
  readonly mutations: Mutation[];
  readonly event: ReceivedEvent;
}

/** Room in a report's row for its envelope and the rest of its message. */
const REPORT_MARGIN = 4_000;
/** Our reports go out before ordinary mail. */
const REPORT_BAND = 4;

/** One report for each action among `reportables`; the caller has made sure that the reverse-path is not null. */
export function makeReports(
  context: QueueContext,
  original: Message,
  reportables: readonly Reportable[],
  facts: { readonly header: string; readonly now: number },
): ReportRows[] {
  const actions = new Map<Report["action"], Reportable[]>();
  for (const each of reportables) {
    const group = actions.get(each.action);
    if (group) group.push(each);
    else actions.set(each.action, [each]);
  }
  return [...actions].map(([action, group]) => {
    const report: Report = {
      of: original.id,
      action,
      ...(original.envid !== undefined ? { envid: original.envid } : {}),
      arrivalDate: original.receivedAt,
      ...(action === "delayed" ? { willRetryUntil: original.expiresAt } : {}),
      // RFC 3461 §4.3: RET is about failure reports; all others carry the header only.
      returnContent: action === "failed" ? original.ret ?? "HDRS" : "HDRS",
      originalSmtpUtf8: original.smtpUtf8,
      originalBody: original.body,
      header: "",
      recipients: group.map((each) => reported(each, facts.now)),
    };
    const header = headerThatFits(facts.header, ROW_MAX - REPORT_MARGIN - jsonSize(report));
    return reportRows(context, original, { ...report, header }, facts.now);
  });
}

/** As much of the header, cut at a line end, as fits into `room` bytes of JSON. */
function headerThatFits(header: string, room: number): string {
  let text = header;
  while (text !== "" && jsonSize(text) > room) {
    text = text.slice(0, text.lastIndexOf("\r\n", Math.floor(text.length / 2)) + 2 || 0);
    if (!text.endsWith("\r\n")) text = "";
  }
  return text;
}

function reported({ recipient, outcome }: Reportable, now: number): ReportedRecipient {
  return {
    address: recipient.address,
    ...(recipient.orcpt ? { orcpt: recipient.orcpt } : {}),
    status: outcome.status,
    diagnostic: outcome.reply,
    diagnosticIsSmtp: outcome.fromRemote,
    ...(outcome.remoteMta ? { remoteMta: outcome.remoteMta } : {}),
    lastAttempt: now,
  };
}

function reportRows(context: QueueContext, original: Message, report: Report, now: number): ReportRows {
  // All rows of the decision lie in one shard.
  const id = context.ids.queueId(shardOfMessage(original.id), now);
  const recipient: Recipient = {
    address: original.reversePath,
    status: "queued",
    attempts: 0,
    notify: { never: true },
  };
  const envelope: Envelope = {
    id,
    n: 0,
    queue: formatNextHop(context.routing(domainOf(original.reversePath))),
    band: REPORT_BAND,
    at: now,
    recipients: [recipient],
  };
  const message: Message = {
    id,
    receivedAt: now,
    expiresAt: now + context.settings.queueLifetime,
    reversePath: "",
    body: report.returnContent === "FULL" ? original.body : "7BIT",
    smtpUtf8: original.smtpUtf8,
    requireTls: original.requireTls,
    size: 0,
    source: { protocol: "DSN" },
    envelopes: 1,
    report,
  };
  return {
    message,
    envelope,
    mutations: [setMessage(message, envelope, new Uint8Array(0), 0), setDue(envelope, false)],
    event: receivedEvent(message, [recipient]),
  };
}
