/** The SMTP server: listeners, connections and their limits. */
import type { Config } from "../config/config.ts";
import { clientKey, createNetworks, isLoopback, normalizeIp } from "../platform/ip.ts";
import type { Clock } from "../platform/clock.ts";
import type { CertificateStore } from "../platform/tls_server.ts";
import type { Acceptor } from "../queue/model.ts";
import { encodeReply, reply } from "../smtp/reply.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Authenticator, createAuthenticator } from "./auth.ts";
import { Connection } from "./connection.ts";
import type { ServerContext } from "./context.ts";
import { createRecipientRule } from "./rules.ts";
import type { Client, Role } from "./session.ts";
import { BufferPool } from "./wire.ts";

/** One address to listen on. */
export interface Listen {
  readonly role: Role;
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** TLS from the first byte (RFC 8314). */
  readonly implicitTls?: boolean;
}

/** Settings a server goes by. */
export type SmtpServerConfig = Pick<
  Config,
  | "mode"
  | "hostname"
  | "localDomains"
  | "mailboxes"
  | "relayNetworks"
  | "smtpUsers"
  | "maxMessageSize"
  | "maxRecipients"
  | "maxConnections"
  | "maxConnectionsPerClient"
  | "maxErrors"
  | "smtpTimeout"
>;

export interface SmtpServerOptions {
  readonly config: SmtpServerConfig;
  readonly listen: readonly Listen[];
  readonly acceptor: Acceptor;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** Without it there is no STARTTLS. */
  readonly certificates?: CertificateStore;
  /** Default: one over `config.smtpUsers`. */
  readonly authenticator?: Authenticator;
}

/** A running server. */
export interface SmtpServer {
  /** In the order of `listen`, with the ports in use. */
  readonly addresses: readonly { readonly role: Role; readonly host: string; readonly port: number }[];
  /** Connections now. */
  readonly sessions: number;
  /**
   * Stops listening and ends each session once it has no transaction open; when `signal` aborts, all at once.
   * Resolves when every connection is closed.
   */
  close(signal?: AbortSignal): Promise<void>;
}

/** Listeners that `config` asks for. */
export function listenOn(
  config: Pick<Config, "smtpListen" | "submissionListen" | "smtpsListen">,
): Listen[] {
  return [
    ...config.smtpListen.map((each): Listen => ({ role: "relay", ...each })),
    ...config.submissionListen.map((each): Listen => ({ role: "submission", ...each })),
    ...config.smtpsListen.map((each): Listen => ({ role: "submission", ...each, implicitTls: true })),
  ];
}

const SWEEP_INTERVAL = 1_000;
/** Sweeps between two looks at the certificate files. */
const CERTIFICATE_SWEEPS = 10;
/** Wait after an accept that failed, for want of file descriptors as a rule. */
const ACCEPT_PAUSE = 100;

const SERVER_FULL = new TextEncoder().encode(
  encodeReply(reply(421, "4.7.0", "Too many connections, try again later")),
);
const CLIENT_FULL = new TextEncoder().encode(
  encodeReply(reply(421, "4.7.0", "Too many connections from your address, try again later")),
);

/**
 * Starts listening.
 * @throws {Error} naming the address that is in use or not ours, or the listener that lacks a certificate.
 */
export async function createSmtpServer(options: SmtpServerOptions): Promise<SmtpServer> {
  const authenticator = options.authenticator ?? await createAuthenticator(options.config.smtpUsers);
  const server = new Server(options, authenticator);
  server.listen();
  return server;
}

class Server implements SmtpServer {
  readonly #options: SmtpServerOptions;
  readonly #context: ServerContext;
  readonly #trusted: (address: string) => boolean;
  readonly #listeners: { readonly listen: Listen; readonly listener: Deno.TcpListener }[] = [];
  readonly #connections = new Set<Connection>();
  readonly #perClient = new Map<string, number>();
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[] = [];
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: SmtpServerOptions, authenticator: Authenticator) {
    this.#options = options;
    this.#trusted = createNetworks(options.config.relayNetworks);
    this.#context = makeContext(options, authenticator);
    options.metrics.gauge("epoxi_smtp_connections", "Incoming SMTP connections now.", () => this.sessions);
  }

  get addresses(): { role: Role; host: string; port: number }[] {
    return this.#listeners.map(({ listen, listener }) => ({
      role: listen.role,
      host: listener.addr.hostname,
      port: listener.addr.port,
    }));
  }

  get sessions(): number {
    return this.#connections.size;
  }

  listen(): void {
    try {
      for (const listen of this.#options.listen) {
        this.#listeners.push({ listen, listener: this.#open(listen) });
      }
    } catch (error) {
      for (const { listener } of this.#listeners) listener.close();
      throw error;
    }
    for (const { listen, listener } of this.#listeners) this.#loops.push(this.#accept(listen, listener));
    this.#loops.push(this.#sweep());
  }

  close(signal?: AbortSignal): Promise<void> {
    return this.#closing ??= this.#close(signal);
  }

  async #close(signal: AbortSignal | undefined): Promise<void> {
    for (const { listener } of this.#listeners) listener.close();
    for (const connection of this.#connections) connection.drain();
    const closeAll = () => {
      for (const connection of this.#connections) connection.close();
    };
    signal?.addEventListener("abort", closeAll, { once: true });
    if (signal?.aborted) closeAll();
    if (this.sessions > 0) await new Promise<void>((resolve) => this.#idle = resolve);
    signal?.removeEventListener("abort", closeAll);
    this.#stop.abort();
    await Promise.all(this.#loops);
  }

  #open(listen: Listen): Deno.TcpListener {
    const { host, port } = listen;
    const where = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    if (listen.implicitTls && !this.#options.certificates) {
      throw new Error(`cannot listen on ${where} with TLS: EPOXI_TLS_CERT and EPOXI_TLS_KEY are not set`);
    }
    try {
      return Deno.listen({ hostname: host, port });
    } catch (error) {
      throw new Error(`cannot listen for SMTP on ${where}: ${reasonOf(error)}`);
    }
  }

  async #accept(listen: Listen, listener: Deno.TcpListener): Promise<void> {
    while (!this.#closing) {
      try {
        this.#welcome(listen, await listener.accept());
      } catch (error) {
        if (this.#closing || error instanceof Deno.errors.BadResource) return;
        this.#options.log.warn("connection not accepted", { reason: reasonOf(error) });
        await this.#options.clock.sleep(ACCEPT_PAUSE, this.#stop.signal).catch(() => {});
      }
    }
  }

  #welcome(listen: Listen, conn: Deno.TcpConn): void {
    const { config, log } = this.#options;
    const address = normalizeIp(conn.remoteAddr.hostname);
    const client: Client = { address, loopback: isLoopback(address), trusted: this.#trusted(address) };
    const key = clientKey(address);
    const fromClient = this.#perClient.get(key) ?? 0;
    const full = this.sessions >= config.maxConnections
      ? SERVER_FULL
      : !client.trusted && fromClient >= config.maxConnectionsPerClient
      ? CLIENT_FULL
      : undefined;
    if (full) {
      log.info("connection refused", {
        client: address,
        reason: full === SERVER_FULL ? "server full" : "client full",
      });
      this.#context.metrics.rejected.add(1, { code: "421" });
      return turnAway(conn, listen.implicitTls ? undefined : full);
    }
    // A reply must not wait for the client's ACK of the one before.
    conn.setNoDelay(true);
    const connection = new Connection(this.#context, conn, listen.role, client, listen.implicitTls ?? false);
    this.#connections.add(connection);
    this.#perClient.set(key, fromClient + 1);
    // `run` never throws.
    void connection.run().then(() => this.#goodbye(connection, key));
  }

  #goodbye(connection: Connection, key: string): void {
    this.#connections.delete(connection);
    const left = this.#perClient.get(key)! - 1;
    if (left === 0) this.#perClient.delete(key);
    else this.#perClient.set(key, left);
    if (this.sessions === 0) this.#idle?.();
  }

  /** One timer for all: deadlines, and the certificate files. */
  async #sweep(): Promise<void> {
    const { clock } = this.#options;
    for (let round = 1; !this.#stop.signal.aborted; round++) {
      try {
        await clock.sleep(SWEEP_INTERVAL, this.#stop.signal);
      } catch {
        return;
      }
      const now = clock.monotonic();
      for (const connection of this.#connections) connection.sweep(now);
      if (round % CERTIFICATE_SWEEPS === 0) this.#refreshCertificate();
    }
  }

  #refreshCertificate(): void {
    const { certificates, log } = this.#options;
    try {
      if (certificates?.refresh()) {
        log.info("TLS certificate loaded", { validTo: certificates.validTo.toISOString() });
      }
    } catch (error) {
      log.error("TLS certificate not loaded, the old one stays in use", { error: reasonOf(error) });
    }
  }
}

function makeContext(options: SmtpServerOptions, authenticator: Authenticator): ServerContext {
  const { config, acceptor, metrics, certificates, log, clock } = options;
  return {
    hostname: config.hostname,
    rules: {
      hostname: config.hostname,
      maxMessageSize: config.maxMessageSize,
      maxRecipients: config.maxRecipients,
      maxErrors: config.maxErrors,
      startTls: certificates !== undefined,
      mechanisms: authenticator.mechanisms,
      available: () => acceptor.reasons().length === 0,
      recipient: createRecipientRule(config),
    },
    acceptor,
    authenticator,
    secureContext: () => certificates?.context,
    log,
    metrics: {
      commands: metrics.counter("epoxi_smtp_commands_total", "SMTP commands received, by verb."),
      rejected: metrics.counter(
        "epoxi_smtp_rejected_total",
        "SMTP commands and messages refused, by reply code.",
      ),
      authFailures: metrics.counter("epoxi_auth_failures_total", "Logins with wrong credentials."),
    },
    clock,
    timeout: config.smtpTimeout,
    pool: new BufferPool(),
  };
}

/** Says why, without waiting for the client to read it. */
function turnAway(conn: Deno.TcpConn, words: Uint8Array | undefined): void {
  const close = () => {
    try {
      conn.close();
    } catch {
      // Gone already.
    }
  };
  if (words) conn.write(words).then(close, close);
  else close();
}

function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.AddrInUse) return "the address is in use by another program";
  if (error instanceof Deno.errors.AddrNotAvailable) return "this machine has no such address";
  if (error instanceof Deno.errors.PermissionDenied) {
    return "the system does not allow it (ports under 1024 need a right)";
  }
  return error instanceof Error ? error.message : String(error);
}
