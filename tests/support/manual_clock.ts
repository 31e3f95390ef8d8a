/** A clock that a test moves by hand. */
import type { Clock } from "../../src/platform/clock.ts";

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

/** Wall and monotonic time move together; sleepers wake in order. */
export class ManualClock implements Clock {
  #time: number;
  #sleepers: Sleeper[] = [];

  constructor(start = 1_700_000_000_000) {
    this.#time = start;
  }

  now(): number {
    return this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = { at: this.#time + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter((each) => each !== sleeper);
        reject(signal.reason);
      }, { once: true });
    });
  }

  /** Moves time on and wakes everyone whose time has come. */
  advance(ms: number): void {
    this.#time += ms;
    const due = this.#sleepers.filter(({ at }) => at <= this.#time).sort((a, b) => a.at - b.at);
    this.#sleepers = this.#sleepers.filter(({ at }) => at > this.#time);
    for (const { wake } of due) wake();
  }
}
