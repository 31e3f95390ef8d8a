/** What the parts of the delivery side share; made once by `delivery.ts`. */
import type { Clock } from "../platform/clock.ts";
import type { Outcome, Work } from "../queue/model.ts";
import type { Log } from "../telemetry/log.ts";
import type { SmtpConnection, Timeouts } from "./client.ts";
import type { Remembered } from "./remembered.ts";
import type { RouteOptions } from "./route.ts";
import type { Window } from "./window.ts";

/** What the lanes of one process share. */
export interface LaneContext {
  readonly work: Work;
  readonly log: Log;
  readonly clock: Clock;
  readonly hostname: string;
  readonly route: RouteOptions;
  readonly random: () => number;
  /** `host:port` of hosts whose STARTTLS is broken. */
  readonly plaintext: Remembered;
  /** `address:port` that could not be reached: tried after the others. */
  readonly unreachable: Remembered;
  readonly timeouts: Timeouts;
  /** Aborts when connections must end now. */
  readonly signal: AbortSignal;
  /** Global bound of connections; a site that does not work gets less of it. */
  mayConnect(window: Window): boolean;
  connected(change: 1 | -1): void;
  /** Connections past EHLO, so that they can be broken off. */
  readonly open: Set<SmtpConnection>;
  finished(outcomes: readonly Outcome[], seconds: number): void;
}
