/** Header fields: parsing, unfolding, folding and RFC 2047 decoding. */

/** One header field, unfolded; the value has no surrounding white space. */
export interface HeaderField {
  readonly name: string;
  readonly value: string;
}

/** RFC 5322 §2.1.1: characters a line may have at most, without its CRLF. */
export const LINE_MAX = 998;
/** RFC 5322 §2.1.1: characters a line should have at most. */
const LINE_SHOULD = 78;
const FIELD = /^([\x21-\x39\x3b-\x7e]+)[ \t]*:(.*)$/s;

/**
 * Parses a header section up to its empty line. Line ends may be CRLF or LF; lines that are no field are skipped,
 * as a reader of other people's mail must.
 */
export function parseHeader(text: string): HeaderField[] {
  const fields: HeaderField[] = [];
  let field = "";
  const flush = () => {
    const match = FIELD.exec(field);
    if (match) fields.push({ name: match[1]!, value: match[2]!.trim() });
  };
  for (const line of text.split(/\r?\n/)) {
    if (line === "") break;
    if (/^[ \t]/.test(line) && field !== "") {
      field += line;
    } else {
      flush();
      field = line;
    }
  }
  flush();
  return fields;
}

/** Value of the first field called `name` (any case). */
export function fieldValue(fields: readonly HeaderField[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return fields.find((field) => field.name.toLowerCase() === wanted)?.value;
}

/** The first Message-ID of a field value, without angle brackets (RFC 5322 §3.6.4). */
export function parseMessageId(value: string | undefined): string | undefined {
  return value === undefined ? undefined : /<([^<>\s]{1,900})>/.exec(value)?.[1];
}

/**
 * Offset of the first byte after the header section's empty line; the length of `content` where it has no body.
 * A body may follow a header without an empty line only by its absence, so nothing else is guessed.
 */
export function headerEnd(content: Uint8Array): number {
  if (content[0] === 13 && content[1] === 10) return 2;
  if (content[0] === 10) return 1;
  for (let at = content.indexOf(10); at >= 0; at = content.indexOf(10, at + 1)) {
    if (content[at + 1] === 10) return at + 2;
    if (content[at + 1] === 13 && content[at + 2] === 10) return at + 3;
  }
  return content.length;
}

/**
 * A header value for people: bytes beyond ASCII read as UTF-8 (else Latin-1), encoded words decoded (RFC 2047),
 * control characters removed. `value` may hold one character a byte, or be text already.
 */
export function decodeHeaderText(value: string): string {
  const words = binaryToText(value)
    // Space between two encoded words is not part of the text (RFC 2047 §6.2).
    .replace(/(=\?[^?\s]+\?[bq]\?[^?\s]*\?=)\s+(?==\?[^?\s]+\?[bq]\?[^?\s]*\?=)/gi, "$1");
  return removeControls(
    joinWords(words).replace(WORD, (whole, charset, encoding, text) => {
      return decodeWord(charset, encoding, text) ?? whole;
    }),
  );
}

const WORD = /=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?\s]*)\?=/gi;

/** Joins Q words of one charset, because senders split multi-byte characters across words. */
function joinWords(text: string): string {
  return text.replace(
    /(?:=\?[^?\s]+\?q\?[^?\s]*\?=){2,}/gi,
    (run) => {
      const words = [...run.matchAll(WORD)];
      const charset = words[0]?.[1]?.toLowerCase();
      if (!words.every((word) => word[1]?.toLowerCase() === charset)) return run;
      return `=?${charset}?q?${words.map((word) => word[3]).join("")}?=`;
    },
  );
}

function decodeWord(charset: string, encoding: string, text: string): string | undefined {
  try {
    const bytes = encoding.toLowerCase() === "b"
      ? Uint8Array.fromBase64(text.replaceAll("=", ""), { lastChunkHandling: "loose" })
      : decodeQ(text);
    return new TextDecoder(charset).decode(bytes);
  } catch {
    // An unknown charset or broken base64: shown as it came.
    return undefined;
  }
}

function decodeQ(text: string): Uint8Array {
  const binary = text.replaceAll("_", " ")
    .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

/** Text with one character a byte, as UTF-8 where it is, else as Latin-1; other text is returned unchanged. */
export function binaryToText(text: string): string {
  // deno-lint-ignore no-control-regex
  if (/^[\x00-\x7f]*$/.test(text) || /[^\x00-\xff]/.test(text)) return text;
  try {
    const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return text;
  }
}

/** `text` on one line: control characters, line separators and direction overrides become spaces. */
export function removeControls(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]+/gu, " ").trim();
}

/** `text` with everything beyond ASCII as `?`. */
export function toAscii(text: string): string {
  return text.replace(/[^\x20-\x7e]/gu, "?");
}

/**
 * A header field with its CRLF, folded at spaces into lines of at most 78 characters where it can be, and of at most
 * 998 bytes always. Control characters in `value` are removed first, so no value can start another field.
 */
export function foldField(name: string, value: string): string {
  const lines: string[] = [];
  let line = `${name}:`;
  for (const word of removeControls(value).split(/ +/)) {
    for (const piece of pieces(word)) {
      if (line.length + 1 + piece.length > LINE_SHOULD && line.trim() !== "" && line !== `${name}:`) {
        lines.push(line);
        line = "";
      }
      line += ` ${piece}`;
    }
  }
  lines.push(line);
  return lines.join("\r\n") + "\r\n";
}

/** A word without spaces in pieces that fit a line even at four bytes a character. */
function pieces(word: string): string[] {
  const max = Math.floor((LINE_MAX - LINE_SHOULD) / 4);
  if (word.length <= max) return [word];
  const characters = [...word];
  const found: string[] = [];
  for (let at = 0; at < characters.length; at += max) found.push(characters.slice(at, at + max).join(""));
  return found;
}

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** `ms` since the epoch as an RFC 5322 §3.3 date-time in UTC: `Tue, 24 Nov 2026 09:24:23 +0000`. */
export function formatDate(ms: number): string {
  const date = new Date(ms);
  const two = (value: number) => String(value).padStart(2, "0");
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  const day = `${DAYS[date.getUTCDay()]}, ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  return `${day} ${date.getUTCFullYear()} ${time} +0000`;
}
