/** How many connections a site gets: more while it goes well, fewer when it does not (Postfix's feedback, in short). */

/** Connections to a site that has shown it works, at first and at most. */
const START = 5;
export const CEILING = 20;
/** Connections to a site that was never reached, or not last time. */
const UNPROVEN = 2;
/** Pause after a failure: doubles from the first to the last, in milliseconds. */
const FIRST_PAUSE = 1_000;
const LAST_PAUSE = 60_000;
/** After a connection too many, no further one is tried for this long, in milliseconds. */
const CROWDED = 10_000;

/** Feedback of one site; it outlives the site's lane. Times are monotonic milliseconds. */
export class Window {
  #size = START;
  #proven = false;
  #failures = 0;
  #pausedUntil = 0;
  #growAfter = 0;

  /** Connections allowed now. */
  get size(): number {
    return this.#proven ? Math.floor(this.#size) : UNPROVEN;
  }

  /** Whether the site took mail when it was last tried. */
  get proven(): boolean {
    return this.#proven;
  }

  /** Failures since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** How much longer the site is to be left alone; 0 when it may be tried. */
  pauseLeft(now: number): number {
    return Math.max(0, this.#pausedUntil - now);
  }

  /** A message went through: one more connection after as many successes as there are connections. */
  succeeded(now: number): void {
    this.#failures = 0;
    this.#pausedUntil = 0;
    if (!this.#proven) {
      this.#proven = true;
      this.#size = Math.max(this.#size, START);
    }
    if (now >= this.#growAfter) this.#size = Math.min(CEILING, this.#size + 1 / this.#size);
  }

  /** A further connection was refused while `established` ones work: so many are enough for now. */
  crowded(established: number, now: number): void {
    this.#size = Math.max(1, Math.min(this.#size, established));
    this.#growAfter = now + CROWDED;
  }

  /**
   * The site can't be reached. Returns how long to leave it alone, in milliseconds; connections that fail at the same
   * time count as one failure.
   */
  failed(random: () => number, now: number): number {
    if (this.pauseLeft(now) > 0) return this.pauseLeft(now);
    this.#proven = false;
    this.#size = Math.max(1, this.#size / 2);
    const pause = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** Math.min(this.#failures, 10));
    this.#failures++;
    this.#pausedUntil = now + pause * (0.75 + random() / 2);
    return this.pauseLeft(now);
  }
}
