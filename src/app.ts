/** The composition root: opens everything in order, wires it, and closes it in reverse. */
import { isFqdn } from "./config/check_config.ts";
import type { Config } from "./config/config.ts";
import { startDelivery } from "./delivery/delivery.ts";
import { createHttpApp } from "./http/app.ts";
import { type HttpServer, serveHttp } from "./http/serve.ts";
import { openStore, type Store } from "./kv/store.ts";
import { systemClock } from "./platform/clock.ts";
import { createResolver, parseResolvConf } from "./platform/dns.ts";
import { type DataDir, openDataDir } from "./platform/node_lock.ts";
import { CertificateStore } from "./platform/tls_server.ts";
import { createRouting } from "./queue/next_hop.ts";
import { Queue } from "./queue/queue.ts";
import { createSmtpServer, listenOn, type SmtpServer } from "./server/server.ts";
import type { QueueEvent } from "./telemetry/event.ts";
import type { Log } from "./telemetry/log.ts";
import { Metrics } from "./telemetry/metrics.ts";

/** A running node. */
export interface App {
  readonly smtp: SmtpServer;
  readonly http: HttpServer;
  /** Takes no more mail, lets what runs end until `signal` aborts, and closes everything. */
  close(signal: AbortSignal): Promise<void>;
}

/**
 * Starts a node.
 * @throws {Error} fit to be shown: a port in use, a store that is none, a data directory in use …
 */
export async function startApp(config: Config, log: Log): Promise<App> {
  const dataDir = await openDataDir(config.dataDir, {
    ...(config.nodeId === undefined ? {} : { nodeId: config.nodeId }),
    newId: () => crypto.randomUUID(),
  });
  const opened: (() => void | Promise<void>)[] = [() => dataDir.release()];
  try {
    const store = await openStore(config.kv, config.mode);
    opened.push(() => store.close());
    return await startNode(config, log, { dataDir, store, opened });
  } catch (error) {
    for (const close of opened.reverse()) await close();
    throw error;
  }
}

interface Opened {
  readonly dataDir: DataDir;
  readonly store: Store;
  readonly opened: (() => void | Promise<void>)[];
}

async function startNode(config: Config, log: Log, { dataDir, store, opened }: Opened): Promise<App> {
  const metrics = new Metrics();
  const clock = systemClock;
  const random = Math.random;
  const mxAllowed = isFqdn(config.hostname) || config.mode === "dev";
  for (const warning of config.warnings) log.warn("configuration", { warning });
  const routing = createRouting({ ...config, capture: config.mode === "dev" });
  const observe = observer(log, metrics);
  const queue = await Queue.open({
    store,
    settings: config,
    nodeId: dataDir.nodeId,
    dataDir: config.dataDir,
    routing,
    clock,
    random,
    newSessionId: () => crypto.randomUUID(),
    log,
    onEvents: observe,
  });
  opened.push(() => queue.close());
  queueMetrics(metrics, queue);
  const certificates = config.tlsCert !== undefined && config.tlsKey !== undefined
    ? CertificateStore.open(config.tlsCert, config.tlsKey)
    : undefined;
  const smtp = await createSmtpServer({
    config,
    listen: listenOn(config),
    acceptor: queue.acceptor,
    log,
    metrics,
    clock,
    ...(certificates ? { certificates } : {}),
  });
  opened.push(() => smtp.close(AbortSignal.abort()));
  const app = createHttpApp({
    config,
    queue: queue.api,
    acceptor: queue.acceptor,
    metrics,
    clock,
    log,
    routing,
    newId: () => crypto.randomUUID(),
  });
  const http = serveHttp(app, {
    http: config.httpListen,
    https: config.httpsListen,
    log,
    ...(config.tlsCert !== undefined && config.tlsKey !== undefined
      ? {
        tls: { cert: await Deno.readTextFile(config.tlsCert), key: await Deno.readTextFile(config.tlsKey) },
      }
      : {}),
  });
  opened.push(() => http.close(1_000));
  if (certificates && config.httpsListen.length > 0) opened.push(reloadWith(certificates, config, http, log));
  const delivery = startDelivery({
    config,
    mxAllowed,
    nodeId: dataDir.nodeId,
    work: queue.work,
    resolver: createResolver({ servers: await nameServers(config), clock }),
    log,
    metrics,
    clock,
    random,
  });
  queue.pipelines = () => delivery.pipelines();
  for (const { role, host, port } of smtp.addresses) {
    log.info("listening", { protocol: role, address: `${host.includes(":") ? `[${host}]` : host}:${port}` });
  }
  log.info("ready", {
    hostname: config.hostname,
    mode: config.mode,
    data: config.dataDir,
    node: dataDir.nodeId,
  });
  return {
    smtp,
    http,
    async close(signal) {
      // Delivery and reception end side by side; the queue stays until both have committed what they hold.
      queue.stopWork();
      await Promise.all([smtp.close(signal), delivery.close(signal)]);
      for (const close of opened.reverse()) await close();
    },
  };
}

/** How often it is looked whether the SMTP side has read a new certificate, in milliseconds. */
const CERTIFICATE_INTERVAL = 5_000;

/** Lets HTTPS follow the certificate that the SMTP side reloads. Returns what ends that. */
function reloadWith(certificates: CertificateStore, config: Config, http: HttpServer, log: Log): () => void {
  let current = certificates.context;
  const timer = setInterval(async () => {
    if (certificates.context === current) return;
    current = certificates.context;
    try {
      await http.reload(await readTls(config));
    } catch (error) {
      log.error("https keeps its old certificate", {
        error: error instanceof Error ? error.message : String(error),
      });
    }
  }, CERTIFICATE_INTERVAL);
  return () => clearInterval(timer);
}

async function readTls(config: Config): Promise<{ cert: string; key: string }> {
  return { cert: await Deno.readTextFile(config.tlsCert!), key: await Deno.readTextFile(config.tlsKey!) };
}

/** Log lines and figures of what has become durable. */
function observer(log: Log, metrics: Metrics): (events: readonly QueueEvent[]) => void {
  const count = metrics.counter("epoxi_events_total", "What happened to messages and recipients, by kind.");
  return (events) => {
    for (const event of events) {
      count.add(1, { type: event.type });
      const { type, at: _at, ...fields } = event;
      switch (type) {
        case "received":
          log.info(event.reportOf ? "dsn" : "received", fields);
          break;
        case "deferred":
          log.info(type, {
            ...fields,
            nextAttemptAt: new Date(event.nextAttemptAt ?? event.at).toISOString(),
          });
          break;
        default:
          log.info(type, fields);
      }
    }
  };
}

function queueMetrics(metrics: Metrics, queue: Queue): void {
  metrics.gauge(
    "epoxi_queue_messages",
    "Messages waiting in the shards of this node.",
    () => queue.total("messages"),
  );
  metrics.gauge("epoxi_queue_recipients", "Recipients waiting in the shards of this node.", () => {
    return queue.total("recipients");
  });
  metrics.gauge("epoxi_queue_held", "Recipients held by an operator.", () => queue.total("held"));
  metrics.gauge("epoxi_dead_letters", "Failed messages kept for replay.", () => queue.total("dead"));
  metrics.gauge("epoxi_queue_memory", "Queues and envelopes in memory.", () => {
    const { queues, ready, inFlight } = queue.counts;
    return new Map([["queues", queues], ["ready", ready], ["in_flight", inFlight]]);
  });
  metrics.gauge("epoxi_ready_bytes", "Bytes of bodies kept ready in memory.", () => queue.counts.readyBytes);
  metrics.gauge("epoxi_process_memory_bytes", "Memory of the JavaScript engine.", () => {
    const { heapTotal, heapUsed, external } = Deno.memoryUsage();
    return new Map([["heap_total", heapTotal], ["heap_used", heapUsed], ["external", external]]);
  });
  metrics.gauge("epoxi_process_resident_bytes", "Resident set size.", () => Deno.memoryUsage().rss);
}

async function nameServers(config: Config): Promise<{ host: string; port: number }[]> {
  if (config.dnsServers.length > 0) return [...config.dnsServers];
  try {
    return parseResolvConf(await Deno.readTextFile("/etc/resolv.conf"));
  } catch {
    return parseResolvConf("");
  }
}
