/** How many connections a site gets: more while it goes well, fewer when it does not (Postfix's feedback, in short). */

/** Connections to a site that has shown it works, at first and at most. */
const START = 5;
export const CEILING = 20;
/** Connections to a site that was never reached, or not last time. */
const UNPROVEN = 2;
/** Pause after a failure: doubles from the first to the last, in milliseconds. */
const FIRST_PAUSE = 1_000;
const LAST_PAUSE = 60_000;

/** Feedback of one site; it outlives the site's lane. */
export class Window {
  #size = START;
  #proven = false;
  #failures = 0;

  /** Connections allowed now. */
  get size(): number {
    return this.#proven ? Math.floor(this.#size) : UNPROVEN;
  }

  /** Failures since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** A message went through: one more connection after as many successes as there are connections. */
  succeeded(): void {
    this.#failures = 0;
    if (!this.#proven) {
      this.#proven = true;
      this.#size = Math.max(this.#size, START);
    }
    this.#size = Math.min(CEILING, this.#size + 1 / this.#size);
  }

  /** No connection could be made. Returns how long to leave the site alone, in milliseconds. */
  failed(random: () => number): number {
    this.#proven = false;
    this.#size = Math.max(1, this.#size / 2);
    const pause = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.#failures, 10));
    this.#failures++;
    return pause * (0.75 + random() / 2);
  }
}
