/** What the connections of one server share. */
import type { SecureContext } from "node:tls";
import type { Clock } from "../platform/clock.ts";
import type { Acceptor } from "../queue/model.ts";
import type { Log } from "../telemetry/log.ts";
import type { Counter } from "../telemetry/metrics.ts";
import type { Authenticator } from "./auth.ts";
import type { Rules } from "./rules.ts";
import type { BufferPool } from "./wire.ts";

/** Counters of a server. */
export interface ServerMetrics {
  readonly commands: Counter;
  readonly rejected: Counter;
  readonly authFailures: Counter;
}

export interface ServerContext {
  readonly hostname: string;
  readonly rules: Rules;
  readonly acceptor: Acceptor;
  readonly authenticator: Authenticator;
  /** For the next handshake; undefined without a certificate. */
  readonly secureContext: () => SecureContext | undefined;
  readonly log: Log;
  readonly metrics: ServerMetrics;
  readonly clock: Clock;
  /** Milliseconds. */
  readonly timeout: number;
  readonly pool: BufferPool;
}
