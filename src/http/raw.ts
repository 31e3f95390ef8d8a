/** Messages that come whole: made fit for the queue, and otherwise left as they are. */
import { DraftError } from "../message/draft.ts";
import {
  fieldValue,
  formatDate,
  headerEnd,
  LINE_MAX,
  parseHeader,
  parseMessageId,
} from "../message/header.ts";
import { bodyOf, type RenderContext, type Rendered } from "../message/render.ts";
import { decodeBase64 } from "./requests.ts";

/**
 * The message in `raw`: text, or base64 (which can't be a message, as that has a colon in its first line). Line ends
 * become CRLF, Bcc fields are taken out, Date and Message-ID are put in where they are missing (RFC 6409 §8).
 * @throws {DraftError}
 */
export function rawMessage(raw: string, context: RenderContext): Rendered {
  const bytes = raw.includes(":") ? new TextEncoder().encode(raw) : decodeBase64(raw);
  if (!bytes) throw new DraftError("raw", "is neither a message with header fields nor base64");
  const lines = normaliseLineEnds(bytes);
  const end = headerEnd(lines);
  const header = latin1(lines.subarray(0, end));
  const fields = parseHeader(header);
  if (fields.length === 0) throw new DraftError("raw", "has no header fields (RFC 5322 §2.2)");
  checkLines(lines);
  const given = fieldValue(fields, "message-id");
  const messageId = parseMessageId(given) ?? `${context.uniqueId}@${context.hostname}`;
  let added = "";
  if (fieldValue(fields, "date") === undefined) added += `Date: ${formatDate(context.date)}\r\n`;
  if (given === undefined) added += `Message-ID: <${messageId}>\r\n`;
  const head = fromLatin1(added + withoutBcc(header));
  const body = lines.subarray(end);
  const content = new Uint8Array(head.length + body.length);
  content.set(head);
  content.set(body, head.length);
  return { content, messageId, ...bodyOf(content) };
}

/** Takes out every Bcc field with its continuation lines. */
function withoutBcc(header: string): string {
  return header.replace(/^(resent-)?bcc[ \t]*:.*\r\n([ \t].*\r\n)*/gim, "");
}

/** CRLF for every CRLF, lone CR and lone LF: no other reading of the line ends is possible afterwards. */
export function normaliseLineEnds(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length * 2);
  let size = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === 13 || byte === 10) {
      if (byte === 13 && bytes[i + 1] === 10) i++;
      out[size++] = 13;
      out[size++] = 10;
    } else {
      out[size++] = byte;
    }
  }
  return out.slice(0, size);
}

function checkLines(lines: Uint8Array): void {
  if (lines.includes(0)) throw new DraftError("raw", "has a NUL character in it (RFC 5322 §2.2)");
  for (let start = 0, number = 1; start < lines.length; number++) {
    const lineFeed = lines.indexOf(10, start);
    const stop = lineFeed < 0 ? lines.length : lineFeed - 1;
    if (stop - start > LINE_MAX) {
      throw new DraftError(
        "raw",
        `line ${number} has ${stop - start} bytes, at most ${LINE_MAX} (RFC 5322 §2.1.1)`,
      );
    }
    start = lineFeed < 0 ? lines.length : lineFeed + 1;
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}

function fromLatin1(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
