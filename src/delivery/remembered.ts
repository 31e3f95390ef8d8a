/** Facts about hosts that hold for a while: broken STARTTLS, an address that could not be reached. */
import type { Clock } from "../platform/clock.ts";

const MAX_KEYS = 10_000;

/** Keys, each remembered for the same time; of too many the oldest is forgotten. */
export class Remembered {
  readonly #clock: Clock;
  readonly #time: number;
  readonly #until = new Map<string, number>();

  /** `time` is in milliseconds. */
  constructor(clock: Clock, time: number) {
    this.#clock = clock;
    this.#time = time;
  }

  has(key: string): boolean {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (until > this.#clock.monotonic()) return true;
    this.#until.delete(key);
    return false;
  }

  add(key: string): void {
    this.#until.delete(key);
    this.#until.set(key, this.#clock.monotonic() + this.#time);
    if (this.#until.size > MAX_KEYS) this.#until.delete(this.#until.keys().next().value!);
  }

  delete(key: string): void {
    this.#until.delete(key);
  }
}
