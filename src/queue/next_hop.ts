/** Next hops and queue names: pure text, shared by accept (which queue?) and delivery (how to get there?). */
import type { QueueName } from "./model.ts";

/** Where an envelope goes next. */
export type NextHop =
  | { readonly kind: "mx"; readonly domain: string }
  | { readonly kind: "smtp"; readonly host: string; readonly port: number }
  | { readonly kind: "local"; readonly domain: string }
  | { readonly kind: "capture" };

/** A static route: `domain` `*` stands for every other domain. */
export interface Route {
  readonly domain: string;
  readonly host: string;
  readonly port: number;
}

/** What decides the next hop of a domain. */
export interface RoutingRules {
  readonly localDomains: readonly string[];
  readonly routes: readonly Route[];
  /** Dev mode: everything that is neither local nor routed is captured. */
  readonly capture: boolean;
}

/** A function from a recipient's domain to its next hop: local first, then a static route, then capture or MX. */
export function createRouting(rules: RoutingRules): (domain: string) => NextHop {
  const local = new Set(rules.localDomains.map((domain) => domain.toLowerCase()));
  const routes = new Map(rules.routes.map((route) => [route.domain.toLowerCase(), route]));
  return (domain) => {
    const name = domain.toLowerCase();
    if (local.has(name)) return { kind: "local", domain: name };
    const route = routes.get(name) ?? routes.get("*");
    if (route) return { kind: "smtp", host: route.host, port: route.port };
    return rules.capture ? { kind: "capture" } : { kind: "mx", domain: name };
  };
}

/** Text of a next hop: `example.com`, `[host]:port`, `local:example.com`, `capture:`. */
export function formatNextHop(hop: NextHop): QueueName {
  switch (hop.kind) {
    case "mx":
      return hop.domain;
    case "smtp":
      return `[${hop.host}]:${hop.port}`;
    case "local":
      return `local:${hop.domain}`;
    case "capture":
      return "capture:";
  }
}

/**
 * Next hop of a queue name, the inverse of {@linkcode formatNextHop} (a `campaign:tenant@` before it is skipped).
 * A domain that is an address literal is `[IPv6:…]` without a port, so it never looks like a static route.
 */
export function parseNextHop(queue: QueueName): NextHop {
  const text = queue.slice(queue.lastIndexOf("@") + 1);
  if (text === "capture:") return { kind: "capture" };
  if (text.startsWith("local:")) return { kind: "local", domain: text.slice(6) };
  const fixed = /^\[(.+)\]:(\d+)$/.exec(text);
  if (fixed) return { kind: "smtp", host: fixed[1]!, port: Number(fixed[2]) };
  return { kind: "mx", domain: text };
}
