// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** Replies: RFC 5321 §4.2, with enhanced status codes of RFC 2034. */

/** One reply, of one line or more. */
export interface Reply {
  /** 3 digits. */
  readonly code: number;
  /** `x.y.z` (RFC 3463), where there is one. */
  readonly status?: string;
  /** Text of each line without code and status; at least one. */
  readonly lines: readonly string[];
}

/** Thrown for what is no reply; the connection is of no use any more. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
}

/** Octets of one reply line (RFC 5321 §4.5.3.1.5 says 512; others send more), and of a whole reply. */
const MAX_LINE = 4_096;
const MAX_REPLY = 65_536;

/** Makes a reply. */
export function reply(code: number, status: string | undefined, ...lines: string[]): Reply {
  return { code, ...(status === undefined ? {} : { status }), lines: lines.length === 0 ? [""] : lines };
}

/** The reply as it goes over the wire. */
export function encodeReply({ code, status, lines }: Reply): string {
  const prefix = status === undefined ? "" : status + " ";
  let text = "";
  lines.forEach((line, i) => {
    text += `${code}${i < lines.length - 1 ? "-" : " "}${prefix}${line.replace(/[\r\n\0]/g, " ")}\r\n`;
  });
  return text;
}

/** The reply as one line for logs and reports: `550 5.1.1 No such user`. */
export function formatReply({ code, status, lines }: Reply): string {
  const text = lines.join(" ").replace(/[\x00-\x1f\x7f]/g, " ").replace(/ {2,}/g, " ").trim();
  return `${code} ${status === undefined ? "" : status + " "}${text}`.trim();
}

/** Reads replies out of bytes that come in any chunking. */
export class ReplyParser {
  readonly #decoder = new TextDecoder();
  #rest = "";
  #size = 0;
  #lines: { code: number; status: string | undefined; text: string }[] = [];

  /**
   * Replies that are complete with these bytes.
   * @throws {ReplyError} for junk, or for a reply that does not end.
   */
  push(bytes: Uint8Array): Reply[] {
    const replies: Reply[] = [];
    let text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    for (;;) {
      const end = text.indexOf("\n");
      if (end < 0) break;
      const line = text.slice(0, text[end - 1] === "\r" ? end - 1 : end);
      text = text.slice(end + 1);
      const reply = this.#line(line);
      if (reply) replies.push(reply);
    }
    if (text.length > MAX_LINE) throw new ReplyError(`reply line is longer than ${MAX_LINE} octets`);
    this.#rest = text;
    return replies;
  }

  /** True when no reply is begun. */
  get empty(): boolean {
    return this.#rest === "" && this.#lines.length === 0;
  }

  #line(line: string): Reply | undefined {
    const match = /^([2-5]\d\d)(?:([ -])(.*))?$/s.exec(line);
    if (!match) {
      throw new ReplyError(`expected a reply, got "${line.slice(0, 80).replace(/[^\x20-\x7e]/g, "?")}"`);
    }
    const code = Number(match[1]);
    const first = this.#lines[0];
    if (first && first.code !== code) {
      throw new ReplyError(`reply changes its code from ${first.code} to ${code}`);
    }
    this.#size += line.length;
    if (this.#size > MAX_REPLY) throw new ReplyError(`reply is longer than ${MAX_REPLY} octets`);
    const { status, text } = splitStatus(match[3] ?? "", code);
    this.#lines.push({ code, status, text });
    if (match[2] === "-") return undefined;
    const lines = this.#lines;
    this.#lines = [];
    this.#size = 0;
    return reply(code, lines[0]!.status, ...lines.map((each) => each.text));
  }
}

function splitStatus(text: string, code: number): { status: string | undefined; text: string } {
  const match = /^([245]\.\d{1,3}\.\d{1,3})(?: |$)/.exec(text);
  // A status of another class than the code is text.
  if (!match || match[1]![0] !== String(code)[0]) return { status: undefined, text };
  return { status: match[1]!, text: text.slice(match[0].length) };
}
