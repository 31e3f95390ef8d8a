/** Whether content has only CRLF as line ends (RFC 5321 §2.3.8), in chunks of any size. */
export class LineEndCheck {
  #afterCr = false;
  #bare = false;

  /** True once a CR without LF, or an LF without CR, was seen. A CR at the very end counts only with `end`. */
  get bareLineEnd(): boolean {
    return this.#bare;
  }

  push(chunk: Uint8Array): void {
    if (this.#bare || chunk.length === 0) return;
    let afterCr = this.#afterCr;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (afterCr !== (byte === 10)) {
        this.#bare = true;
        return;
      }
      afterCr = byte === 13;
    }
    this.#afterCr = afterCr;
  }

  /** No more content comes. */
  end(): void {
    if (this.#afterCr) this.#bare = true;
  }
}
