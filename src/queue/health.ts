/** Why no mail can be taken just now. Looked at once a second; asking costs nothing. */
import { statfsSync } from "node:fs";

/** What is watched, and how. */
export interface HealthOptions {
  /** Folder of the store; undefined when the store is not on a disk of ours. */
  readonly dataDir: string | undefined;
  /** Bytes. */
  readonly minFreeDisk: number;
  /** Bytes of RSS. */
  readonly memoryLimit: number;
  /** Error of the store's last commit. */
  readonly storeFailure: () => unknown;
  /** Jobs that wait for a commit. */
  readonly commitBacklog: () => number;
  /** Bytes free in a folder; throws where that can't be told. */
  readonly freeDisk?: (path: string) => number;
  /** Bytes of RSS of this process. */
  readonly memory?: () => number;
}

/** A store that answers this slowly is overloaded. */
const MAX_COMMIT_BACKLOG = 20_000;

/** The state of what accepting mail depends on. */
export class Health {
  readonly #options: HealthOptions;
  #reasons: string[] = [];

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** One sentence for each reason; empty when mail can be taken. */
  reasons(): string[] {
    return this.#reasons;
  }

  /** Looks again. */
  check(): void {
    const { minFreeDisk, memoryLimit, storeFailure, commitBacklog } = this.#options;
    const reasons: string[] = [];
    const free = this.#free();
    if (free !== undefined && free < minFreeDisk) {
      reasons.push(`disk nearly full: ${mib(free)} MiB free, EPOXI_MIN_FREE_DISK wants ${mib(minFreeDisk)}`);
    }
    const rss = this.#options.memory?.() ?? Deno.memoryUsage().rss;
    if (rss > memoryLimit) {
      reasons.push(`memory: ${mib(rss)} MiB in use, EPOXI_MEMORY_LIMIT is ${mib(memoryLimit)}`);
    }
    const failure = storeFailure();
    if (failure !== undefined) {
      reasons.push(`the queue cannot be written: ${failure instanceof Error ? failure.message : failure}`);
    }
    if (commitBacklog() > MAX_COMMIT_BACKLOG) reasons.push("the queue is overloaded: too many commits wait");
    this.#reasons = reasons;
  }

  #free(): number | undefined {
    const { dataDir, freeDisk } = this.#options;
    if (dataDir === undefined) return undefined;
    try {
      if (freeDisk) return freeDisk(dataDir);
      const { bavail, bsize } = statfsSync(dataDir);
      return bavail * bsize;
    } catch {
      return undefined;
    }
  }
}

function mib(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
