/** Who may call what: tokens with scopes, or loopback only where there are none. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { isLoopback } from "../config/kinds.ts";
import { Problem } from "./problem.ts";

export type Scope = "read" | "send" | "admin";

/** What a request carries along: where it came from, and who made it. */
export interface HttpEnv {
  Bindings: {
    /** Address of the client; undefined for a listener that has none. */
    readonly client?: string;
    /** Aborts when the server stops: streams end then. */
    readonly closing?: AbortSignal;
  };
  Variables: {
    /** Name of the token, or `local` where there are none. */
    caller: string;
  };
}

interface Token {
  readonly name: string;
  readonly digest: Uint8Array;
  readonly scopes: ReadonlySet<string>;
}

/** Checks requests against the tokens of the configuration. */
export class Access {
  readonly #tokens: readonly Token[];

  constructor(
    tokens: readonly { readonly name: string; readonly token: string; readonly scopes: readonly string[] }[],
  ) {
    this.#tokens = tokens.map(({ name, token, scopes }) => ({
      name,
      digest: digest(token),
      scopes: new Set(scopes.length === 0 ? ["read", "send", "admin"] : scopes),
    }));
  }

  /**
   * Without tokens: only for programs on this machine, and never for a page of another site in a browser on it, which
   * could reach loopback too. With tokens there is nothing a browser would send by itself, so nothing to check.
   */
  readonly local: MiddlewareHandler<HttpEnv> = async (c, next) => {
    if (this.#tokens.length === 0) {
      const client = c.env?.client;
      if (client !== undefined && !isLoopback(client)) {
        throw new Problem(403, "Without EPOXI_API_TOKENS the API answers this machine only.");
      }
      refuseForeignPage(c);
    }
    await next();
  };

  /** Lets a request pass that has a token with `scope`, or any where there are no tokens. */
  need(scope: Scope): MiddlewareHandler<HttpEnv> {
    return async (c, next) => {
      c.set("caller", this.#caller(c, scope));
      await next();
    };
  }

  #caller(c: Context<HttpEnv>, scope: Scope): string {
    if (this.#tokens.length === 0) return "local";
    const given = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    const token = given === undefined ? undefined : this.#find(given);
    if (!token) {
      const detail = given === undefined
        ? "Send a token: Authorization: Bearer <token>."
        : "The token is not known.";
      throw new Problem(401, detail, { headers: { "www-authenticate": 'Bearer realm="epoxi"' } });
    }
    if (!token.scopes.has(scope)) {
      throw new Problem(403, `The token ${token.name} lacks the scope ${scope}.`);
    }
    return token.name;
  }

  /** Compares with every token, in the same time whatever was given. */
  #find(given: string): Token | undefined {
    const wanted = digest(given);
    let found: Token | undefined;
    for (const token of this.#tokens) {
      if (timingSafeEqual(token.digest, wanted)) found = token;
    }
    return found;
  }
}

function digest(token: string): Uint8Array {
  return createHash("sha256").update(token).digest();
}

/** Refuses what a page of another site can make a browser send (cross-site requests, DNS rebinding). */
function refuseForeignPage(c: Context<HttpEnv>): void {
  const host = c.req.header("host");
  if (host !== undefined && !isLocalHost(host)) {
    throw new Problem(403, `Host "${host.slice(0, 100)}" is not this machine; without tokens use localhost.`);
  }
  const origin = c.req.header("origin");
  if (origin !== undefined && !isLocalOrigin(origin, host)) {
    throw new Problem(403, `Requests from "${origin.slice(0, 100)}" are not answered without tokens.`);
  }
  if (c.req.header("sec-fetch-site") === "cross-site" && c.req.header("sec-fetch-mode") !== "navigate") {
    throw new Problem(403, "Requests from other sites are not answered without tokens.");
  }
  const writes = c.req.method !== "GET" && c.req.method !== "HEAD";
  // A form or a simple fetch of another site can't send this type without asking first.
  if (writes && !isJson(c.req.header("content-type"))) {
    throw new Problem(415, "Send content-type: application/json.");
  }
}

/** True for the media type application/json, whatever its parameters. */
export function isJson(contentType: string | undefined): boolean {
  return /^application\/json\s*(;|$)/i.test(contentType ?? "");
}

function isLocalHost(host: string): boolean {
  const name = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host);
  return name !== null && isLoopback((name[1] ?? name[2]!).toLowerCase());
}

function isLocalOrigin(origin: string, host: string | undefined): boolean {
  const match = /^https?:\/\/(.+)$/i.exec(origin);
  return match !== null && isLocalHost(match[1]!) &&
    (host === undefined || match[1]!.toLowerCase() === host.toLowerCase());
}
