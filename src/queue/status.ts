/** What a node publishes about itself once a second: figures that live in its memory. */
import { keys } from "../kv/keys.ts";
import { encodeRecord } from "../kv/record.ts";
import type { PipelineView } from "./api.ts";

/** Queues listed at most: those with the most at hand. */
const MAX_QUEUES = 200;

/** The row `["status", node]`. */
export interface NodeStatus {
  readonly node: string;
  readonly at: number;
  readonly queues: readonly { readonly queue: string; readonly ready: number; readonly inFlight: number }[];
  readonly pipelines: readonly PipelineView[];
}

/** Writes a node's status when it differs from the last one written, or that is getting old. */
export class StatusPublisher {
  readonly #kv: Deno.Kv;
  readonly #node: string;
  #last = "";
  #at = 0;

  constructor(kv: Deno.Kv, node: string) {
    this.#kv = kv;
    this.#node = node;
  }

  async publish(now: number, status: Pick<NodeStatus, "queues" | "pipelines">): Promise<void> {
    const queues = [...status.queues].sort((a, b) => b.inFlight - a.inFlight).slice(0, MAX_QUEUES);
    const pipelines = status.pipelines.slice(0, MAX_QUEUES / 2);
    const text = JSON.stringify([queues, pipelines.map((each) => ({ ...each, last_check: "" }))]);
    if (text === this.#last && now - this.#at < 5_000) return;
    this.#last = text;
    this.#at = now;
    const value = encodeRecord({ node: this.#node, at: now, queues, pipelines } satisfies NodeStatus);
    if (value.length < 60_000) await this.#kv.set(keys.status(this.#node), value);
  }

  /** Takes the row away when the node ends. */
  async withdraw(): Promise<void> {
    await this.#kv.delete(keys.status(this.#node));
  }
}
