/** Splits a client's bytes into command lines. */

/** A line without its end. */
export interface ScannedLine {
  /** "" when it was too long or not UTF-8. */
  readonly text: string;
  /** What is wrong with it. Only CRLF is a line end (RFC 5321 §2.3.8). */
  readonly fault?: "bare LF" | "bare CR" | "too long" | "not UTF-8";
}

const CR = 13;
const LF = 10;
const NOTHING = new Uint8Array(0);

/**
 * Command lines from chunks of any size. An over-long line is dropped up to its end and reported once. What is
 * not read as lines (message content) is taken out with {@linkcode takeRest}.
 */
export class LineScanner {
  readonly #maxLength: number;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #bytes: Uint8Array = NOTHING;
  #start = 0;
  /** Where to look for the next LF. */
  #searched = 0;
  #dropping = false;

  /** @param maxLength octets of a line, with its CRLF. */
  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  /** Bytes held that no line was made of yet. */
  get pending(): number {
    return this.#bytes.length - this.#start;
  }

  /** Adds bytes; copied where they are not read to their end before the next push. */
  push(chunk: Uint8Array): void {
    const left = this.pending;
    if (left === 0) {
      this.#bytes = chunk;
      this.#searched = 0;
    } else {
      const joined = new Uint8Array(left + chunk.length);
      joined.set(this.#bytes.subarray(this.#start));
      joined.set(chunk, left);
      this.#bytes = joined;
      this.#searched -= this.#start;
    }
    this.#start = 0;
  }

  /** The next whole line; undefined when more bytes are needed. */
  next(): ScannedLine | undefined {
    for (;;) {
      const end = this.#bytes.indexOf(LF, this.#searched);
      if (end < 0) return this.#incomplete();
      const start = this.#start;
      this.#start = this.#searched = end + 1;
      if (this.#dropping) {
        this.#dropping = false;
        return { text: "", fault: "too long" };
      }
      if (end + 1 - start > this.#maxLength) return { text: "", fault: "too long" };
      return this.#line(start, end);
    }
  }

  /** True when a whole line is at hand: the client did not wait for the last reply. */
  get hasLine(): boolean {
    return this.#bytes.indexOf(LF, this.#searched) >= 0;
  }

  /** Takes out everything that is not read yet, as a view. */
  takeRest(): Uint8Array {
    const rest = this.#bytes.subarray(this.#start);
    this.#bytes = NOTHING;
    this.#start = this.#searched = 0;
    this.#dropping = false;
    return rest;
  }

  /** Copies what is left, so that the caller may reuse the buffer it pushed. */
  detach(): void {
    this.#bytes = this.pending === 0 ? NOTHING : this.#bytes.slice(this.#start);
    this.#searched = Math.max(0, this.#searched - this.#start);
    this.#start = 0;
  }

  #incomplete(): undefined {
    if (this.#dropping || this.pending > this.#maxLength) {
      // Memory stays bounded however long the line gets.
      this.#dropping = true;
      this.#bytes = NOTHING;
      this.#start = 0;
    }
    this.#searched = this.#bytes.length;
    return undefined;
  }

  #line(start: number, lf: number): ScannedLine {
    const bytes = this.#bytes;
    const crlf = lf > start && bytes[lf - 1] === CR;
    const end = crlf ? lf - 1 : lf;
    let ascii = true;
    let bareCr = false;
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      if (byte > 0x7f) ascii = false;
      else if (byte === CR) bareCr = true;
    }
    if (!crlf) return { text: "", fault: "bare LF" };
    if (bareCr) return { text: "", fault: "bare CR" };
    const line = bytes.subarray(start, end);
    if (ascii) return { text: String.fromCharCode.apply(null, line as unknown as number[]) };
    try {
      return { text: this.#utf8.decode(line) };
    } catch {
      return { text: "", fault: "not UTF-8" };
    }
  }
}
