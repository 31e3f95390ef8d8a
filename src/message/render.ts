/** Composes messages (RFC 5322, MIME) from drafts, through nodemailer. */
import { Buffer } from "node:buffer";
import MailComposer from "nodemailer/lib/mail-composer";
import { type Address, type Draft, DraftError } from "./draft.ts";
import { fieldValue, formatDate, headerEnd, LINE_MAX, parseMessageId } from "./header.ts";
import type { BodyType } from "./report_model.ts";

/** What a draft is composed with. */
export interface RenderContext {
  /** Domain of the Message-ID. */
  readonly hostname: string;
  /** Milliseconds since the epoch, for the Date field. */
  readonly date: number;
  /** Left part of the Message-ID, unique for each message. */
  readonly uniqueId: string;
}

/** A message ready for the queue. */
export interface Rendered {
  /** CRLF line ends, no line over 998 bytes. */
  readonly content: Uint8Array;
  /** Without angle brackets. */
  readonly messageId: string;
  readonly body: BodyType;
  /** The header section has more than ASCII in it (RFC 6531). */
  readonly smtpUtf8: boolean;
}

const NOBODY_NAMED = Buffer.from("To: undisclosed-recipients:;\r\n");

/**
 * Composes a draft that has been checked: text, HTML or both (multipart/alternative), inline parts
 * (multipart/related) and attachments (multipart/mixed). Bcc never becomes part of the message.
 * @throws {DraftError} when a header field can't be put into lines that SMTP carries.
 */
export async function renderMessage(draft: Draft, context: RenderContext): Promise<Rendered> {
  const given = (name: string) => fieldValue(draft.headers, name);
  const messageId = given("message-id") === undefined
    ? `${context.uniqueId}@${context.hostname}`
    : parseMessageId(given("message-id"));
  if (messageId === undefined) {
    throw new DraftError("headers.Message-ID", "is no message id: expected <left@right> (RFC 5322 §3.6.4)");
  }
  const date = given("date");
  if (date !== undefined && Number.isNaN(Date.parse(date))) {
    throw new DraftError("headers.Date", "is no date");
  }
  const composer = new MailComposer({
    from: mailbox(draft.from),
    ...(draft.to.length > 0 ? { to: draft.to.map(mailbox) } : {}),
    cc: draft.cc.map(mailbox),
    replyTo: draft.replyTo.map(mailbox),
    ...(draft.subject === undefined ? {} : { subject: draft.subject }),
    ...(draft.text === undefined ? {} : { text: draft.text }),
    ...(draft.html === undefined ? {} : { html: draft.html }),
    headers: ownHeaders(draft),
    attachments: draft.attachments.map(({ content, filename, contentType, cid }) => ({
      content: Buffer.from(content.buffer, content.byteOffset, content.byteLength),
      filename: filename ?? false,
      ...(contentType === undefined ? {} : { contentType }),
      ...(cid === undefined ? {} : { cid }),
    })),
    messageId: `<${messageId}>`,
    date: date ?? formatDate(context.date),
    newline: "win",
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  // Nobody is named: without this, a message to Bcc alone would have no recipient field at all.
  if (draft.to.length + draft.cc.length === 0) {
    composer.mail.to = { name: "undisclosed-recipients", group: [] };
  }
  const composed: Uint8Array = await composer.compile().build();
  // A message to Bcc alone would have no recipient field at all.
  const content = draft.to.length + draft.cc.length > 0 ? composed : Buffer.concat([NOBODY_NAMED, composed]);
  checkHeaderLines(content);
  return { content, messageId, ...bodyOf(content) };
}

/** What a finished message needs of the hosts it passes. */
export function bodyOf(content: Uint8Array): { body: BodyType; smtpUtf8: boolean } {
  const isByte = (byte: number) => byte > 127;
  const smtpUtf8 = content.subarray(0, headerEnd(content)).some(isByte);
  return { body: smtpUtf8 || content.some(isByte) ? "8BITMIME" : "7BIT", smtpUtf8 };
}

function ownHeaders({ headers }: Draft) {
  return headers.filter(({ name }) => !/^(date|message-id)$/i.test(name))
    .map(({ name, value }) => ({ key: name, value }));
}

function mailbox({ name, address }: Address) {
  return { name: name ?? "", address };
}

function checkHeaderLines(content: Uint8Array): void {
  const end = headerEnd(content);
  for (let start = 0; start < end;) {
    const lineFeed = content.indexOf(10, start);
    const stop = lineFeed < 0 ? end : lineFeed;
    if (stop - start > LINE_MAX + 1) {
      const name = new TextDecoder().decode(content.subarray(start, start + 77)).split(":")[0] ?? "";
      throw new DraftError(
        `headers.${name}`,
        `is too long for a line of ${LINE_MAX} characters (RFC 5322 §2.1.1)`,
      );
    }
    start = stop + 1;
  }
}
