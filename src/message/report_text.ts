/** The part of a delivery report that people read. */
import { binaryToText, formatDate, removeControls } from "./header.ts";
import type { Report, ReportedRecipient } from "./report_model.ts";

/** Subject of a report. */
export function reportSubject(action: Report["action"]): string {
  return {
    failed: "Undelivered mail: your message could not be delivered",
    delayed: "Delayed mail: your message is still on its way",
    delivered: "Delivered mail: your message has arrived",
    relayed: "Relayed mail: your message has been passed on",
  }[action];
}

/** Text of a report with CRLF line ends, wrapped for a narrow window; UTF-8 where an address needs it. */
export function reportText(report: Report, hostname: string): string {
  const many = report.recipients.length > 1;
  const lines = [
    `This is the mail system at ${hostname}.`,
    "",
    ...wrap(introduction(report, many), ""),
    "",
  ];
  for (const recipient of report.recipients) {
    lines.push(
      `  <${removeControls(recipient.address)}>`,
      ...wrap(explanation(recipient, report.action), "    "),
      "",
    );
  }
  lines.push(...wrap(ending(report), ""), "", `Queue id of your message: ${report.of}`);
  return lines.join("\r\n") + "\r\n";
}

function introduction(report: Report, many: boolean): string {
  const them = many ? "the recipients below" : "the recipient below";
  switch (report.action) {
    case "failed":
      return `Your message of ${formatDate(report.arrivalDate)} could not be delivered to ${them}. ` +
        "No further attempts will be made.";
    case "delayed": {
      const until = report.willRetryUntil === undefined
        ? ""
        : ` Attempts go on until ${formatDate(report.willRetryUntil)}.`;
      return `Your message of ${
        formatDate(report.arrivalDate)
      } has not yet been delivered to ${them}.${until} ` +
        "You need not send it again.";
    }
    case "delivered":
      return `Your message of ${formatDate(report.arrivalDate)} was delivered to ${them}.`;
    case "relayed":
      return `Your message of ${
        formatDate(report.arrivalDate)
      } was passed on for ${them} to a system that does ` +
        "not report on delivery. You may not hear of it again.";
  }
}

function explanation(recipient: ReportedRecipient, action: Report["action"]): string {
  const diagnostic = removeControls(binaryToText(recipient.diagnostic)).slice(0, 1000);
  if (diagnostic === "") return `Status: ${recipient.status}`;
  if (!recipient.diagnosticIsSmtp) return diagnostic;
  const host = recipient.remoteMta === undefined
    ? "The remote mail system"
    : `The mail system ${removeControls(recipient.remoteMta)}`;
  return `${host} ${action === "delivered" || action === "relayed" ? "said" : "answered"}: ${diagnostic}`;
}

function ending(report: Report): string {
  const attached = report.returnContent === "FULL" ? "the message itself" : "the header of your message";
  return report.action === "failed" || report.header !== ""
    ? `Details for mail systems and ${attached} are attached.`
    : "Details for mail systems are attached.";
}

/** `text` in lines of at most 76 characters, each with `indent`; a longer word stands on a line of its own. */
function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > 76) {
      lines.push(indent + line);
      line = "";
    }
    line += line === "" ? word : ` ${word}`;
  }
  lines.push(indent + line);
  return lines;
}
