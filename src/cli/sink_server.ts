/** A receiver for tests: takes everything, counts it, and misbehaves by rule. */
import type { HostPort } from "../config/config.ts";
import type { ByteConn } from "../platform/tls_server.ts";
import type { SinkRules } from "./sink_rules.ts";
import {
  type SinkContext,
  type SinkCounts,
  type SinkEnvelope,
  type SinkReceiver,
  SinkSession,
} from "./sink_session.ts";

export type { SinkCounts, SinkEnvelope, SinkReceiver } from "./sink_session.ts";

/** Options of {@linkcode SinkServer.start}. */
export interface SinkOptions {
  readonly listen: HostPort;
  readonly hostname?: string;
  readonly rules?: SinkRules;
  /** From 0 to 1, for rules with a probability. */
  readonly random?: () => number;
  /** Called for each message before its content; undefined takes no interest in it. */
  readonly receive?: (envelope: SinkEnvelope) => SinkReceiver | undefined;
  /** Upgrades a connection after STARTTLS. */
  readonly startTls?: (conn: ByteConn) => Promise<ByteConn>;
}

/** A listening sink. */
export class SinkServer implements AsyncDisposable {
  readonly counts: SinkCounts = {
    connections: 0,
    open: 0,
    messages: 0,
    recipients: 0,
    bytes: 0,
    refused: 0,
    dropped: 0,
  };
  readonly #listener: Deno.TcpListener;
  readonly #sessions = new Set<SinkSession>();
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;

  private constructor(options: SinkOptions, listener: Deno.TcpListener) {
    this.#listener = listener;
    this.#accepting = this.#accept({
      hostname: options.hostname ?? "sink.localhost",
      rules: options.rules ?? new Map(),
      counts: this.counts,
      random: options.random ?? Math.random,
      wait: (ms) => this.#wait(ms),
      ...(options.receive ? { receive: options.receive } : {}),
      ...(options.startTls ? { startTls: options.startTls } : {}),
    });
  }

  /** Listens. Throws what `Deno.listen` throws. */
  static start(options: SinkOptions): SinkServer {
    const { host, port } = options.listen;
    return new SinkServer(options, Deno.listen({ hostname: host, port, tcpBacklog: 1024 }));
  }

  /** The address it listens on. */
  get address(): HostPort {
    const { hostname, port } = this.#listener.addr;
    return { host: hostname, port };
  }

  /** Stops listening and ends every session at once. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new Error("the sink is closed"));
    this.#listener.close();
    for (const session of this.#sessions) session.close();
    await this.#accepting;
    await Promise.all(this.#running);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #accept(context: SinkContext): Promise<void> {
    for await (const conn of this.#listener) {
      conn.setNoDelay(true);
      const session = new SinkSession(context, conn, false);
      this.#sessions.add(session);
      const running: Promise<void> = session.run().catch(() => {
        // The peer went away, or we closed: what it had not finished is not counted.
      }).finally(() => {
        this.#sessions.delete(session);
        this.#running.delete(running);
      });
      this.#running.add(running);
    }
  }

  #wait(ms: number): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", stop);
        resolve();
      }, ms);
      signal.addEventListener("abort", stop, { once: true });
    });
  }
}
