/** Receiver side of DATA: end of data and transparency (RFC 5321 §4.1.1.4 and §4.5.2). */

/** What one chunk brought. */
export interface ScannedData {
  /** Content with dot-stuffing undone: views of the chunk, valid as long as its bytes stay. */
  readonly content: Uint8Array[];
  /** True once CRLF.CRLF was seen. */
  readonly done: boolean;
  /** Bytes of the chunk that belong to this message; less than its length only when done. */
  readonly consumed: number;
}

const CR = 13;
const LF = 10;
const DOT = 46;
const CR_BYTES = Uint8Array.of(CR);

/** Where the last byte left us. */
const enum At {
  /** After CRLF, or before the first byte. */
  LineStart,
  /** After a dot at the start of a line. */
  Dot,
  /** After a dot and CR at the start of a line; this CR is kept back. */
  DotCr,
  Text,
  /** After CR inside a line. */
  Cr,
}

/**
 * Finds the end of a message's data in chunks of any size. Only CRLF.CRLF ends it (or .CRLF at its very
 * beginning); CR and LF on their own are content, and are noted in {@linkcode bareLineEnd}.
 */
export class DataScanner {
  #at: At = At.LineStart;
  #bare = false;

  /** True once a CR without LF, or an LF without CR, was seen. */
  get bareLineEnd(): boolean {
    return this.#bare;
  }

  /** Reads a chunk. After `done` the scanner is spent. */
  push(chunk: Uint8Array): ScannedData {
    const content: Uint8Array[] = [];
    const length = chunk.length;
    let at = this.#at;
    let start = 0;
    let i = 0;
    while (i < length) {
      if (at === At.Text) {
        // The loop that sees nearly every byte.
        while (i < length && chunk[i] !== CR && chunk[i] !== LF) i++;
        if (i === length) break;
        if (chunk[i] === CR) at = At.Cr;
        else this.#bare = true;
        i++;
        continue;
      }
      const byte = chunk[i]!;
      if (at === At.Cr) {
        if (byte === LF) {
          at = At.LineStart;
          i++;
        } else {
          this.#bare = true;
          at = At.Text;
        }
      } else if (at === At.LineStart) {
        if (byte === DOT) {
          if (i > start) content.push(chunk.subarray(start, i));
          start = ++i;
          at = At.Dot;
        } else at = At.Text;
      } else if (at === At.Dot) {
        if (byte === CR) {
          at = At.DotCr;
          i++;
        } else at = At.Text;
      } else {
        if (byte === LF) {
          this.#at = At.LineStart;
          return { content, done: true, consumed: i + 1 };
        }
        // The dot was stuffing after all, and the CR kept back is a bare one.
        this.#bare = true;
        if (i === 0) content.push(CR_BYTES);
        at = At.Text;
      }
    }
    this.#at = at;
    const end = at === At.DotCr ? length - 1 : length;
    if (end > start) content.push(chunk.subarray(start, end));
    return { content, done: false, consumed: length };
  }
}
