/** The delivery side of one process: wires dispatcher, lanes, mailboxes and their figures. */
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import type { Clock } from "../platform/clock.ts";
import type { Resolver } from "../platform/dns.ts";
import { ownAddresses } from "../platform/own_addresses.ts";
import type { PipelineView } from "../queue/api.ts";
import type { Outcome, Work } from "../queue/model.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { DEFAULT_TIMEOUTS, type SmtpConnection, type Timeouts } from "./client.ts";
import { Dispatcher } from "./dispatcher.ts";
import { Maildir } from "./maildir.ts";
import { Remembered } from "./remembered.ts";

/** Outgoing connections at most. */
const MAX_CONNECTIONS = 2_000;
/**
 * How much of that sites get that work, that were never tried, and that failed last: however many hosts are dead or
 * never greet, there is room left for those that take mail.
 */
const SHARES = { proven: 1, fresh: 0.75, failing: 0.5 };
/** How long broken TLS, and an address that can't be reached, are remembered, in milliseconds. */
const REMEMBER_PLAINTEXT = 3_600_000;
const REMEMBER_UNREACHABLE = 60_000;

export interface DeliveryOptions {
  readonly config: Config;
  /** False: only static routes and local mailboxes are delivered to. */
  readonly mxAllowed: boolean;
  readonly nodeId: string;
  readonly work: Work;
  readonly resolver: Resolver;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly random: () => number;
  readonly timeouts?: Timeouts;
  /** Outgoing connections at most. */
  readonly maxConnections?: number;
}

/** A running delivery side. */
export interface Delivery {
  /** Open lanes, in the shape of Epoxi's pipelines. */
  pipelines(): PipelineView[];
  /** Starts nothing more, lets what runs end, and breaks it off when `signal` aborts. */
  close(signal: AbortSignal): Promise<void>;
}

/** Starts delivering what `work` offers. */
export function startDelivery(options: DeliveryOptions): Delivery {
  const { config, work, resolver, log, metrics, clock, random, maxConnections = MAX_CONNECTIONS } = options;
  let connections = 0;
  const results = metrics.counter("epoxi_deliveries_total", "Recipients by the outcome of an attempt.");
  const seconds = metrics.histogram("epoxi_delivery_seconds", "Time of one transaction.", [
    0.005,
    0.02,
    0.1,
    0.5,
    2,
    10,
    60,
  ]);
  metrics.gauge("epoxi_delivery_connections", "Outgoing connections that are open.", () => connections);
  const stop = new AbortController();
  const open = new Set<SmtpConnection>();
  const maildir = new Maildir({
    root: join(config.dataDir, "mail"),
    hostname: config.hostname,
    mailboxes: config.mailboxes,
    clock,
    pid: Deno.pid,
    random,
  });
  const dispatcher = new Dispatcher(
    {
      work,
      log,
      hostname: config.hostname,
      route: {
        ...config,
        ownAddresses: ownAddresses(config.smtpListen, config.deliveryPort),
        mxAllowed: options.mxAllowed,
        resolver,
        random,
      },
      random,
      clock,
      plaintext: new Remembered(clock, REMEMBER_PLAINTEXT),
      unreachable: new Remembered(clock, REMEMBER_UNREACHABLE),
      timeouts: options.timeouts ?? DEFAULT_TIMEOUTS,
      signal: stop.signal,
      open,
      mayConnect: (window) => {
        const kind = window.proven ? "proven" : window.failures > 0 ? "failing" : "fresh";
        return connections < maxConnections * SHARES[kind];
      },
      connected: (change) => connections += change,
      finished(outcomes: readonly Outcome[], duration) {
        for (const { kind } of outcomes) results.add(1, { result: kind });
        if (duration > 0) seconds.observe(duration);
      },
    },
    maildir,
  );
  return {
    pipelines: () =>
      [...dispatcher.lanes].map((lane) => ({
        node: options.nodeId,
        pipeline_name: lane.site.name,
        routing_key: lane.site.name,
        health: lane.window.failures > 0 ? "unhealthy" as const : "healthy" as const,
        started_at: new Date(lane.startedAt).toISOString(),
        last_check: new Date(clock.now()).toISOString(),
        error: lane.window.failures > 0 ? lane.problem ?? null : null,
        connections: lane.connections,
      })),
    async close(signal) {
      const abort = () => {
        stop.abort();
        for (const connection of open) connection.destroy();
      };
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
      await dispatcher.close();
      signal.removeEventListener("abort", abort);
      stop.abort();
    },
  };
}
