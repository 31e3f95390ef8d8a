/** A server over a memory acceptor, for tests. */
import { Metrics } from "../../src/telemetry/metrics.ts";
import { type Log, silentLog } from "../../src/telemetry/log.ts";
import { type Clock, systemClock } from "../../src/platform/clock.ts";
import { CertificateStore } from "../../src/platform/tls_server.ts";
import {
  createSmtpServer,
  type Listen,
  type SmtpServer,
  type SmtpServerConfig,
} from "../../src/server/server.ts";
import { MemoryAcceptor } from "./memory_acceptor.ts";

export const TEST_CERT = new URL("./tls/test_only_cert.pem", import.meta.url).pathname;
export const TEST_KEY = new URL("./tls/test_only_key.pem", import.meta.url).pathname;

export const TEST_CONFIG: SmtpServerConfig = {
  mode: "serve",
  hostname: "mx.test",
  localDomains: ["local.test"],
  mailboxes: ["user@local.test", "other@local.test"],
  relayNetworks: [],
  smtpUsers: [{ user: "user@local.test", password: "sécret" }],
  maxMessageSize: 100_000,
  maxRecipients: 100,
  maxConnections: 100,
  maxConnectionsPerClient: 50,
  maxErrors: 20,
  smtpTimeout: 300_000,
};

export interface TestServerOptions {
  readonly config?: Partial<SmtpServerConfig>;
  readonly role?: Listen["role"];
  readonly tls?: boolean;
  readonly implicitTls?: boolean;
  readonly clock?: Clock;
  readonly log?: Log;
  readonly acceptor?: MemoryAcceptor;
}

export interface TestServer extends SmtpServer {
  readonly port: number;
  readonly acceptor: MemoryAcceptor;
  readonly metrics: Metrics;
  /** Ends all sessions at once. */
  stop(): Promise<void>;
}

/** Listens on a free port of loopback. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const acceptor = options.acceptor ?? new MemoryAcceptor();
  const metrics = new Metrics();
  const { role = "relay", implicitTls = false } = options;
  const server = await createSmtpServer({
    config: { ...TEST_CONFIG, ...options.config },
    listen: [{ role, host: "127.0.0.1", port: 0, implicitTls }],
    acceptor,
    metrics,
    log: options.log ?? silentLog,
    clock: options.clock ?? systemClock,
    ...(options.tls || implicitTls ? { certificates: CertificateStore.open(TEST_CERT, TEST_KEY) } : {}),
  });
  return {
    addresses: server.addresses,
    get sessions() {
      return server.sessions;
    },
    close: (signal) => server.close(signal),
    port: server.addresses[0]!.port,
    acceptor,
    metrics,
    stop: () => server.close(AbortSignal.abort()),
  };
}
