/** Listeners of the HTTP side. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { Hono } from "hono";
import type { HostPort } from "../config/config.ts";
import { formatHostPort } from "../config/kinds.ts";
import type { Log } from "../telemetry/log.ts";
import type { HttpEnv } from "./access.ts";

/** PEM texts of a certificate with its chain, and its key. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

export interface ServeOptions {
  readonly http: readonly HostPort[];
  readonly https: readonly HostPort[];
  /** Needed for `https`. */
  readonly tls?: TlsFiles;
  readonly log: Log;
}

/** How long a broken-off answer has to end. */
const LAST_WORDS_MS = 500;

/** The running listeners. */
export interface HttpServer {
  /** Where it listens, with the real ports. */
  readonly addresses: readonly {
    readonly scheme: "http" | "https";
    readonly host: string;
    readonly port: number;
  }[];
  /**
   * Serves new connections with another certificate; those that stand are finished with the old one.
   * @throws {Error} for a certificate and key that don't belong together; the old ones stay in use.
   */
  reload(tls: TlsFiles): Promise<void>;
  /** Stops listening, finishes what is being answered, and after `graceMs` breaks off the rest. */
  close(graceMs?: number): Promise<void>;
}

interface Listener {
  readonly scheme: "http" | "https";
  readonly host: string;
  readonly port: number;
  readonly server: Deno.HttpServer<Deno.NetAddr>;
}

/**
 * Starts every listener, or none.
 * @throws {Error} naming the address that can't be listened on.
 */
export function serveHttp(app: Hono<HttpEnv>, options: ServeOptions): HttpServer {
  const { http, https, tls, log } = options;
  const closing = new AbortController();
  const listeners: Listener[] = [];
  try {
    for (const address of http) listeners.push(listen(app, "http", address, closing.signal));
    for (const address of https) {
      if (!tls) throw new Error(`HTTPS on ${formatHostPort(address)} needs a certificate`);
      listeners.push(listen(app, "https", address, closing.signal, tls));
    }
  } catch (error) {
    for (const { server } of listeners) server.shutdown().catch(() => {});
    throw error;
  }
  for (const { scheme, host, port } of listeners) {
    log.info("listening", { protocol: scheme, address: formatHostPort({ host, port }) });
  }
  return {
    addresses: listeners.map(({ scheme, host, port }) => ({ scheme, host, port })),
    async reload(files) {
      checkPair(files);
      for (const [i, old] of listeners.entries()) {
        if (old.scheme !== "https") continue;
        // The port is free once the old listener has closed, which is before its last answers are out.
        const finished = old.server.shutdown();
        listeners[i] = await listenAgain(app, old, closing.signal, files);
        finished.catch(() => {});
      }
    },
    async close(graceMs = 5000) {
      const finished = Promise.allSettled(listeners.map(({ server }) => server.shutdown()));
      // A stream that never ends would keep a shutdown waiting for ever, and so would a handler that is stuck.
      const late = Promise.withResolvers<void>();
      const timers = [
        setTimeout(() => closing.abort("the server is stopping"), graceMs),
        setTimeout(late.resolve, graceMs + LAST_WORDS_MS),
      ];
      await Promise.race([finished, late.promise]);
      timers.forEach(clearTimeout);
    },
  };
}

function listen(
  app: Hono<HttpEnv>,
  scheme: "http" | "https",
  { host, port }: HostPort,
  closing: AbortSignal,
  tls?: TlsFiles,
): Listener {
  const handler: Deno.ServeHandler<Deno.NetAddr> = (request, { remoteAddr }) => {
    return app.fetch(request, { client: remoteAddr.hostname, closing });
  };
  const common = { hostname: host, port, onListen() {} };
  try {
    const server = tls
      ? Deno.serve({ ...common, cert: tls.cert, key: tls.key }, handler)
      : Deno.serve(common, handler);
    return { scheme, host, port: server.addr.port, server };
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse
      ? "the port is in use"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new Error(`can't listen on ${scheme}://${formatHostPort({ host, port })}: ${why}`, {
      cause: error,
    });
  }
}

/** Checked before the old listener is given up. */
function checkPair({ cert, key }: TlsFiles): void {
  let fits: boolean;
  try {
    fits = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`certificate or key can't be read: ${why}`, { cause: error });
  }
  if (!fits) throw new Error("certificate and key don't belong together");
}

async function listenAgain(
  app: Hono<HttpEnv>,
  { host, port }: Listener,
  closing: AbortSignal,
  tls: TlsFiles,
): Promise<Listener> {
  for (let attempt = 1;; attempt++) {
    try {
      return listen(app, "https", { host, port }, closing, tls);
    } catch (error) {
      const inUse = error instanceof Error && error.cause instanceof Deno.errors.AddrInUse;
      if (!inUse || attempt === 100 || closing.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}
