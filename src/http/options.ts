/** What the HTTP side is made of; handed in by the composition root. */
import type { Config } from "../config/config.ts";
import type { Clock } from "../platform/clock.ts";
import type { QueueApi } from "../queue/api.ts";
import type { Acceptor } from "../queue/model.ts";
import type { NextHop } from "../queue/next_hop.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

export interface HttpOptions {
  readonly config: Pick<Config, "mode" | "hostname" | "apiTokens" | "maxMessageSize" | "warnings">;
  readonly queue: QueueApi;
  readonly acceptor: Acceptor;
  readonly metrics: Pick<Metrics, "text">;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  /** Where a domain's mail goes, to count the queues a request fills. */
  readonly routing: (domain: string) => NextHop;
  /** A new text of letters and digits each time, for Message-ID. */
  readonly newId: () => string;
  /** Names that `ip_pool` may have; `default` alone where it is missing. */
  readonly pools?: readonly string[];
  /** Recipients one request may have; 10,000 where it is missing. */
  readonly maxRecipients?: number;
}

/** Bytes a request may have: the largest message as base64, and room for what goes around it. */
export function requestLimit(maxMessageSize: number): number {
  return Math.ceil(maxMessageSize * 1.4) + 1024 * 1024;
}
