/** Hosts whose STARTTLS is broken, remembered for a while so that not every connection finds out anew. */
import type { Clock } from "../platform/clock.ts";

const REMEMBER = 3_600_000;
const MAX_HOSTS = 10_000;

export class PlaintextHosts {
  readonly #clock: Clock;
  readonly #until = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(host: string): boolean {
    const until = this.#until.get(host);
    if (until === undefined) return false;
    if (until > this.#clock.monotonic()) return true;
    this.#until.delete(host);
    return false;
  }

  add(host: string): void {
    this.#until.set(host, this.#clock.monotonic() + REMEMBER);
    if (this.#until.size > MAX_HOSTS) this.#until.delete(this.#until.keys().next().value!);
  }
}
