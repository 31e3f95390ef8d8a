/** Sender side of DATA: transparency (RFC 5321 §4.5.2) and line ends that no receiver can misread. */

const CR = 13;
const LF = 10;
const DOT = 46;

/**
 * Makes content safe to send: a dot at the start of a line is doubled, and every CR, LF or CRLF becomes CRLF, so
 * that nothing in a body can look like the end of data to any receiver.
 */
export class DotStuffer {
  #lineStart = true;
  /** The last byte was a CR; its CRLF is out already, so that an LF next is dropped. */
  #afterCr = false;

  /** The chunk as it goes over the wire; the chunk itself where nothing has to change. */
  push(chunk: Uint8Array): Uint8Array {
    const clean = this.#cleanUpTo(chunk);
    return clean === chunk.length ? chunk : this.#rewrite(chunk, clean);
  }

  /** What ends the data: CRLF where it is missing, then `.` CRLF. */
  end(): Uint8Array {
    return this.#lineStart ? Uint8Array.of(DOT, CR, LF) : Uint8Array.of(CR, LF, DOT, CR, LF);
  }

  /** Length of the longest beginning that stays as it is; the state is moved to its end. */
  #cleanUpTo(chunk: Uint8Array): number {
    const length = chunk.length;
    if (length === 0) return 0;
    if (this.#afterCr && chunk[0] === LF) return 0;
    let lineStart = this.#lineStart;
    let i = 0;
    while (i < length) {
      if (lineStart) {
        if (chunk[i] === DOT) break;
        lineStart = false;
      }
      while (i < length && chunk[i] !== CR && chunk[i] !== LF) i++;
      if (i === length) break;
      if (chunk[i] === LF || chunk[i + 1] !== LF) break;
      lineStart = true;
      i += 2;
    }
    if (i > 0) this.#afterCr = false;
    this.#lineStart = lineStart;
    return i;
  }

  #rewrite(chunk: Uint8Array, clean: number): Uint8Array {
    const out = new Uint8Array(clean + (chunk.length - clean) * 2);
    out.set(clean === 0 ? chunk.subarray(0, 0) : chunk.subarray(0, clean));
    let size = clean;
    for (let i = clean; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (byte === LF && this.#afterCr) {
        this.#afterCr = false;
        continue;
      }
      this.#afterCr = byte === CR;
      if (byte === CR || byte === LF) {
        out[size++] = CR;
        out[size++] = LF;
        this.#lineStart = true;
        continue;
      }
      if (byte === DOT && this.#lineStart) out[size++] = DOT;
      out[size++] = byte;
      this.#lineStart = false;
    }
    return out.subarray(0, size);
  }
}
