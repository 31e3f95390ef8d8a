/** Delivery status notifications: RFC 3461 §6, 3464, 6522, and 6533 for internationalized mail. */
import { encode as encodeQuotedPrintable, wrap as wrapQuotedPrintable } from "nodemailer/lib/qp";
import {
  binaryToText,
  fieldValue,
  foldField,
  formatDate,
  LINE_MAX,
  parseHeader,
  parseMessageId,
  removeControls,
  toAscii,
} from "./header.ts";
import type { BodyType, Report } from "./report_model.ts";
import { reportSubject, reportText } from "./report_text.ts";

export type { BodyType, Report, ReportedRecipient } from "./report_model.ts";

/** What {@linkcode renderReport} needs beside the report. */
export interface ReportContext {
  /** Our name: Reporting-MTA and the domain of From and Message-ID. */
  readonly hostname: string;
  /** Reverse-path of the reported message, the recipient of the report; never the null reverse-path. */
  readonly from: string;
  /** Milliseconds since the epoch. */
  readonly date: number;
  /** Queue id of the report itself. */
  readonly queueId: string;
}

/** A report ready to be sent: `head`, then the reported message where `includesOriginal`, then `tail`. */
export interface RenderedReport {
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
  readonly body: BodyType;
  /** The report's own header section needs SMTPUTF8. */
  readonly smtpUtf8: boolean;
  readonly includesOriginal: boolean;
}

/** A diagnostic longer than this is a remote's way to fill our disk. */
const DIAGNOSTIC_MAX = 2000;

/**
 * Renders a report as multipart/report. Only an original that is sent along can make it more than `7BIT`: the other
 * parts are encoded where they must be (RFC 6533 §3 and §4 allow every transfer encoding for its types).
 */
export function renderReport(report: Report, context: ReportContext): RenderedReport {
  const international = report.recipients.some(({ address, orcpt }) => !isAscii(address + (orcpt ?? "")));
  const boundary = `=_${context.queueId.replace(/[^A-Za-z0-9]/g, "")}.${report.recipients.length}.dsn`;
  const includesOriginal = report.returnContent === "FULL";
  const body = includesOriginal ? originalBody(report) : isAscii(context.from) ? "7BIT" : "8BITMIME";
  let head = reportHeader(report, context, { boundary, international, body }) +
    "This is a delivery report in MIME format.\r\n" +
    part(boundary, ["Content-Type: text/plain; charset=utf-8"], reportText(report, context.hostname)) +
    part(boundary, [
      `Content-Type: message/${international ? "global-delivery-status" : "delivery-status"}`,
      "Content-Description: Delivery report",
    ], statusFields(report, context.hostname, international));
  if (includesOriginal) {
    head +=
      `\r\n--${boundary}\r\nContent-Type: message/${report.originalSmtpUtf8 ? "global" : "rfc822"}\r\n` +
      `Content-Description: Reported message\r\n` +
      `Content-Transfer-Encoding: ${TRANSFER_ENCODING[body]}\r\n\r\n`;
  } else if (report.header.trim() !== "") {
    head += headersPart(boundary, report);
  }
  const encoder = new TextEncoder();
  return {
    head: encoder.encode(head),
    tail: encoder.encode(`\r\n--${boundary}--\r\n`),
    body,
    smtpUtf8: !isAscii(context.from),
    includesOriginal,
  };
}

const TRANSFER_ENCODING = { "7BIT": "7bit", "8BITMIME": "8bit", "BINARYMIME": "binary" } as const;

function reportHeader(
  report: Report,
  context: ReportContext,
  form: { readonly boundary: string; readonly international: boolean; readonly body: BodyType },
): string {
  const { hostname, date, queueId } = context;
  const { boundary, international, body } = form;
  const originalId = parseMessageId(fieldValue(parseHeader(report.header), "message-id"));
  const type = international ? "global-delivery-status" : "delivery-status";
  return foldField("From", `Mail Delivery System <MAILER-DAEMON@${hostname}>`) +
    foldField("To", `<${context.from}>`) +
    foldField("Subject", reportSubject(report.action)) +
    foldField("Date", formatDate(date)) +
    foldField("Message-ID", `<${queueId}.dsn@${hostname}>`) +
    (originalId !== undefined && isAscii(originalId)
      ? foldField("In-Reply-To", `<${originalId}>`) + foldField("References", `<${originalId}>`)
      : "") +
    "Auto-Submitted: auto-replied\r\n" +
    "MIME-Version: 1.0\r\n" +
    // The report-type is the subtype of the second part (RFC 6522 §3).
    foldField("Content-Type", `multipart/report; report-type=${type}; boundary="${boundary}"`) +
    (body === "7BIT" ? "" : `Content-Transfer-Encoding: ${TRANSFER_ENCODING[body]}\r\n`) +
    "\r\n";
}

/** An internationalized header is 8-bit text, whatever the body is. */
function originalBody({ originalBody, originalSmtpUtf8 }: Report): BodyType {
  return originalBody === "7BIT" && originalSmtpUtf8 ? "8BITMIME" : originalBody;
}

/** The machine-readable part: per-message fields, then one group of fields a recipient (RFC 3464 §2). */
function statusFields(report: Report, hostname: string, international: boolean): string {
  const text = (value: string) => international ? removeControls(value) : toAscii(removeControls(value));
  let fields = foldField("Reporting-MTA", `dns; ${hostname}`);
  if (report.envid !== undefined) fields += foldField("Original-Envelope-Id", text(report.envid));
  fields += foldField("Arrival-Date", formatDate(report.arrivalDate));
  for (const recipient of report.recipients) {
    fields += "\r\n";
    if (recipient.orcpt !== undefined) {
      fields += foldField("Original-Recipient", typedAddress(recipient.orcpt));
    }
    fields += foldField("Final-Recipient", `${addressType(recipient.address)}; ${recipient.address}`) +
      foldField("Action", report.action) +
      foldField("Status", enhancedStatus(recipient.status, report.action));
    if (recipient.remoteMta !== undefined) {
      fields += foldField("Remote-MTA", `dns; ${text(recipient.remoteMta)}`);
    }
    const diagnostic = text(binaryToText(recipient.diagnostic)).slice(0, DIAGNOSTIC_MAX);
    if (diagnostic !== "") {
      const type = recipient.diagnosticIsSmtp ? "smtp" : "X-Epoxi";
      fields += foldField("Diagnostic-Code", `${type}; ${diagnostic}`);
    }
    fields += foldField("Last-Attempt-Date", formatDate(recipient.lastAttempt));
    if (report.action === "delayed" && report.willRetryUntil !== undefined) {
      fields += foldField("Will-Retry-Until", formatDate(report.willRetryUntil));
    }
  }
  return fields;
}

/** `type;address` of an ORCPT as `type; address`; without a type it is an rfc822 or utf-8 address. */
function typedAddress(orcpt: string): string {
  const match = /^([A-Za-z0-9-]+);\s*(.*)$/s.exec(orcpt);
  return match ? `${match[1]}; ${match[2]}` : `${addressType(orcpt)}; ${orcpt}`;
}

function addressType(address: string): string {
  return isAscii(address) ? "rfc822" : "utf-8";
}

/** RFC 3463 §2: a status whose class fits the action; a code that is none becomes "other" of that class. */
function enhancedStatus(status: string, action: Report["action"]): string {
  const classes = { failed: "5", delayed: "4", delivered: "2", relayed: "2" };
  return /^[245]\.\d{1,3}\.\d{1,3}$/.test(status) ? status : `${classes[action]}.0.0`;
}

/** The returned header section (RFC 6522 §4, RFC 6533 §4). */
function headersPart(boundary: string, report: Report): string {
  const lines = report.header.split(/\r\n?|\n/);
  const end = lines.indexOf("");
  const header = lines.slice(0, end < 0 ? lines.length : end).join("\r\n") + "\r\n";
  const type = report.originalSmtpUtf8 && !isAscii(header) ? "message/global-headers" : "text/rfc822-headers";
  return part(
    boundary,
    [`Content-Type: ${type}`, "Content-Description: Header of the message"],
    header,
    true,
  );
}

/**
 * A body part, quoted-printable where its text is not fit for 7bit. `binary`: `text` has one character a byte.
 */
function part(boundary: string, fields: readonly string[], text: string, binary = false): string {
  const plain = isAscii(text) && text.split("\r\n").every((line) => line.length <= LINE_MAX) &&
    !/\r(?!\n)|(?<!\r)\n|\0/.test(text);
  const bytes = binary ? Uint8Array.from(text, (char) => char.charCodeAt(0)) : new TextEncoder().encode(text);
  const body = plain ? text : wrapQuotedPrintable(encodeQuotedPrintable(bytes as never), 76);
  const encoding = plain ? "7bit" : "quoted-printable";
  return `\r\n--${boundary}\r\n${
    fields.join("\r\n")
  }\r\nContent-Transfer-Encoding: ${encoding}\r\n\r\n${body}`;
}

function isAscii(text: string): boolean {
  // deno-lint-ignore no-control-regex
  return /^[\x00-\x7f]*$/.test(text);
}
