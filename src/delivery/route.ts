/** From a next hop to the hosts that take its mail: RFC 5321 §5.1, RFC 7505, RFC 1123 §5.3.5. */
import { lookup as systemLookup } from "node:dns/promises";
import { domainToASCII } from "node:url";
import { isIP } from "node:net";
import { DnsError, type Resolver } from "../platform/dns.ts";
import { isLoopback, isPrivate, normalizeIp } from "../platform/ip.ts";
import type { NextHop } from "../queue/next_hop.ts";
import type { Outcome } from "../queue/model.ts";

/** Hosts tried for one message at most: a domain may list any number. */
const MAX_HOSTS = 10;

/** One host of a route. */
export interface Host {
  readonly name: string;
  readonly port: number;
  /** Of the MX record; lower goes first. */
  readonly preference: number;
  /** A static route may lead anywhere; what DNS says may not. */
  readonly trusted: boolean;
}

/** Where mail for one next hop goes. Domains that share their hosts share a site. */
export interface Site {
  readonly name: string;
  /** By preference; the order among equals has no meaning. */
  readonly hosts: readonly Host[];
}

/** One address to connect to, or why a host has none. */
export type Target =
  | { readonly host: Host; readonly address: string }
  | { readonly host: Host; readonly problem: NoRoute };

/** What a route depends on. */
export interface RouteOptions {
  readonly resolver: Resolver;
  readonly deliveryPort: number;
  readonly deliveryIp: "any" | "4" | "6";
  readonly deliveryPrivate: "deny" | "allow";
  /** Our name; taken out of MX lists. */
  readonly hostname: string;
  /** Addresses we take mail on at `deliveryPort`: hosts that have one are us, whatever they are called. */
  readonly ownAddresses?: readonly string[];
  /** False when our name is none that the world's hosts would believe. */
  readonly mxAllowed: boolean;
  readonly random: () => number;
}

/** Thrown when there is no host; `outcome` says what that means for everyone. */
export class NoRoute extends Error {
  override readonly name = "NoRoute";
  constructor(readonly outcome: Outcome) {
    super(outcome.reply);
  }
}

/** The site of an SMTP next hop. @throws {NoRoute} */
export async function findSite(hop: NextHop, options: RouteOptions, signal?: AbortSignal): Promise<Site> {
  if (hop.kind === "smtp") {
    return {
      name: `[${hop.host}]:${hop.port}`,
      hosts: [{ name: hop.host, port: hop.port, preference: 0, trusted: true }],
    };
  }
  if (hop.kind !== "mx") throw new TypeError(`${hop.kind} is no SMTP next hop`);
  if (!options.mxAllowed) {
    throw deferred(
      "4.3.5",
      `EPOXI_HOSTNAME "${options.hostname}" is no full domain name: nothing is sent to MX hosts`,
      "local fault",
    );
  }
  const port = options.deliveryPort;
  const literal = literalAddress(hop.domain);
  if (literal) return { name: hop.domain, hosts: [{ name: literal, port, preference: 0, trusted: false }] };
  const domain = domainToASCII(hop.domain);
  if (domain === "") throw failed("5.1.2", `"${hop.domain}" is no domain`);
  const hosts = await mailHosts(domain, options, signal);
  return {
    name: hosts.map(({ name }) => name).sort().join(","),
    hosts: hosts.slice(0, MAX_HOSTS).map((host) => ({ ...host, port, trusted: false })),
  };
}

/**
 * Where to connect, best first: by preference, equal ones in an order that changes (RFC 5321 §5.1). Addresses are
 * looked up when their turn comes. Where one of them is ours, it and all that are not preferred to it are left out.
 */
export async function* targetsOf(
  site: Site,
  options: RouteOptions,
  signal?: AbortSignal,
): AsyncGenerator<Target> {
  const { ownAddresses = [], random } = options;
  const preferences = [...new Set(site.hosts.map(({ preference }) => preference))].sort((a, b) => a - b);
  let tried = false;
  for (const wanted of preferences) {
    const hosts = site.hosts.filter(({ preference }) => preference === wanted)
      .map((host) => ({ host, tie: random() })).sort((a, b) => a.tie - b.tie).map(({ host }) => host);
    const targets: Target[][] = await Promise.all(hosts.map(async (host) => {
      try {
        return (await findAddresses(host, options, signal)).map((address) => ({ host, address }));
      } catch (problem) {
        if (problem instanceof NoRoute) return [{ host, problem }];
        throw problem;
      }
    }));
    const all = targets.flat();
    const own = all.find((each) =>
      "address" in each && !each.host.trusted && ownAddresses.includes(each.address)
    );
    if (own) {
      if (!tried) yield { host: own.host, problem: loop(`host ${own.host.name} is this one`) };
      return;
    }
    tried = true;
    yield* all;
  }
}

/**
 * Addresses of a host in the order to try.
 * @throws {NoRoute} when it has none that may be used.
 */
export async function findAddresses(
  host: Host,
  options: RouteOptions,
  signal?: AbortSignal,
): Promise<string[]> {
  const { deliveryIp, deliveryPrivate } = options;
  const found = isIP(host.name)
    ? [host.name]
    : host.trusted
    ? await lookupTrusted(host.name, options, signal)
    : await lookup(host.name, options, signal);
  const usable = found.filter((address) =>
    deliveryIp === "any" || host.trusted || (deliveryIp === "6") === address.includes(":")
  );
  if (usable.length === 0) throw deferred("4.4.4", `${host.name} has no IPv${deliveryIp} address`);
  if (host.trusted || deliveryPrivate === "allow") return usable;
  const allowed = usable.filter((address) => !isPrivate(address) && !isLoopback(address));
  if (allowed.length > 0) return allowed;
  throw failed("5.4.4", `${host.name} has only private or loopback addresses (${usable.join(", ")})`);
}

interface MailHost {
  readonly name: string;
  readonly preference: number;
}

/** Hosts by preference, without us and what comes after us. */
async function mailHosts(domain: string, options: RouteOptions, signal?: AbortSignal): Promise<MailHost[]> {
  let records;
  try {
    ({ records } = await options.resolver.mx(domain, signal));
  } catch (error) {
    if (!(error instanceof DnsError)) throw error;
    if (error.code === "ENOTFOUND") throw failed("5.1.2", `domain ${domain} does not exist`);
    if (error.code !== "ENODATA") throw deferred("4.4.3", `DNS lookup failed: ${error.message}`, "dns");
    return await implicitHost(domain, options, signal);
  }
  // A null MX beside others is a mistake of theirs; the others count (RFC 7505 §3).
  const named = records.filter(({ exchange }) => exchange !== "");
  if (named.length === 0) throw failed("5.1.10", `domain ${domain} takes no mail (null MX)`);
  const best = new Map<string, number>();
  for (const { exchange, preference } of named) {
    const name = exchange.toLowerCase();
    best.set(name, Math.min(preference, best.get(name) ?? Infinity));
  }
  const own = best.get(options.hostname.toLowerCase()) ?? Infinity;
  const usable = [...best].filter(([, preference]) => preference < own)
    .map(([name, preference]) => ({ name, preference, tie: options.random() }))
    // Shuffled here as well, so that of more hosts than are tried each has its chance.
    .sort((a, b) => a.preference - b.preference || a.tie - b.tie)
    .map(({ name, preference }) => ({ name, preference }));
  if (usable.length === 0) throw loop(`we are the best MX of ${domain}, but it is no domain of ours`);
  return usable;
}

function loop(why: string): NoRoute {
  return failed("5.4.6", `mail loops back to us: ${why}`);
}

/** No MX: the domain itself, if it has an address (RFC 5321 §5.1). */
async function implicitHost(
  domain: string,
  options: RouteOptions,
  signal?: AbortSignal,
): Promise<MailHost[]> {
  if (domain.toLowerCase() === options.hostname.toLowerCase()) {
    throw loop(`${domain} is our own name, but no domain of ours`);
  }
  try {
    await lookup(domain, options, signal);
  } catch (error) {
    if (error instanceof NoRoute && error.outcome.kind === "deferred" && error.outcome.status === "4.4.4") {
      throw failed("5.1.2", `domain ${domain} has neither MX nor address`);
    }
    throw error;
  }
  return [{ name: domain.toLowerCase(), preference: 0 }];
}

/** A host somebody configured may also stand in the hosts file, or need the search list of this machine. */
async function lookupTrusted(name: string, options: RouteOptions, signal?: AbortSignal): Promise<string[]> {
  const { deliveryIp } = options;
  if (/^localhost\.?$/i.test(name)) {
    // RFC 6761 §6.3: never a question for DNS.
    return [...(deliveryIp === "6" ? [] : ["127.0.0.1"]), ...(deliveryIp === "4" ? [] : ["::1"])];
  }
  try {
    return await lookup(name, options, signal);
  } catch (error) {
    if (!(error instanceof NoRoute)) throw error;
    const family = deliveryIp === "any" ? 0 : Number(deliveryIp);
    const found = await systemLookup(name, { all: true, family }).catch(() => []);
    if (found.length === 0) throw error;
    return found.map(({ address }) => normalizeIp(address));
  }
}

async function lookup(name: string, options: RouteOptions, signal?: AbortSignal): Promise<string[]> {
  const { resolver, deliveryIp } = options;
  const ask = async (question: Promise<{ records: readonly string[] }>) => {
    try {
      return (await question).records;
    } catch (error) {
      if (error instanceof DnsError) return error;
      throw error;
    }
  };
  const results = await Promise.all([
    ...(deliveryIp === "6" ? [] : [ask(resolver.a(name, signal))]),
    ...(deliveryIp === "4" ? [] : [ask(resolver.aaaa(name, signal))]),
  ]);
  const addresses = results.flatMap((result) => result instanceof DnsError ? [] : result).map(normalizeIp);
  if (addresses.length > 0) return addresses;
  const trouble = results.find((result) => result instanceof DnsError && result.temporary);
  if (trouble instanceof DnsError) throw deferred("4.4.3", `DNS lookup failed: ${trouble.message}`, "dns");
  throw deferred("4.4.4", `host ${name} has no address`, "dns");
}

function literalAddress(domain: string): string | undefined {
  const inner = /^\[(?:IPv6:)?(.*)\]$/i.exec(domain)?.[1];
  return inner !== undefined && isIP(inner) ? inner : undefined;
}

function failed(status: string, reply: string): NoRoute {
  return new NoRoute({ kind: "failed", scope: "destination", status, reply, fromRemote: false });
}

function deferred(
  status: string,
  reply: string,
  reason: NonNullable<Outcome["reason"]> = "network",
): NoRoute {
  return new NoRoute({ kind: "deferred", scope: "destination", status, reply, fromRemote: false, reason });
}
