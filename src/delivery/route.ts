/** From a next hop to the hosts that take its mail: RFC 5321 §5.1, RFC 7505, RFC 1123 §5.3.5. */
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
  /** A static route may lead anywhere; what DNS says may not. */
  readonly trusted: boolean;
}

/** Where mail for one next hop goes. Domains that share their hosts share a site. */
export interface Site {
  readonly name: string;
  readonly hosts: readonly Host[];
}

/** What a route depends on. */
export interface RouteOptions {
  readonly resolver: Resolver;
  readonly deliveryPort: number;
  readonly deliveryIp: "any" | "4" | "6";
  readonly deliveryPrivate: "deny" | "allow";
  /** Our name; taken out of MX lists. */
  readonly hostname: string;
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
    return { name: `[${hop.host}]:${hop.port}`, hosts: [{ name: hop.host, port: hop.port, trusted: true }] };
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
  if (literal) return { name: hop.domain, hosts: [{ name: literal, port, trusted: false }] };
  const domain = domainToASCII(hop.domain);
  if (domain === "") throw failed("5.1.2", `"${hop.domain}" is no domain`);
  const names = await mailHosts(domain, options, signal);
  return {
    name: [...names].sort().join(","),
    hosts: names.slice(0, MAX_HOSTS).map((name) => ({ name, port, trusted: false })),
  };
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
  const found = isIP(host.name) ? [host.name] : await lookup(host.name, options, signal);
  const usable = found.filter((address) =>
    deliveryIp === "any" || host.trusted || (deliveryIp === "6") === address.includes(":")
  );
  if (usable.length === 0) throw deferred("4.4.4", `${host.name} has no IPv${deliveryIp} address`);
  if (host.trusted || deliveryPrivate === "allow") return usable;
  const allowed = usable.filter((address) => !isPrivate(address) && !isLoopback(address));
  if (allowed.length > 0) return allowed;
  throw failed("5.4.4", `${host.name} has only private or loopback addresses (${usable.join(", ")})`);
}

/** Hosts by preference, equal ones shuffled, without us and what comes after us. */
async function mailHosts(domain: string, options: RouteOptions, signal?: AbortSignal): Promise<string[]> {
  let records;
  try {
    ({ records } = await options.resolver.mx(domain, signal));
  } catch (error) {
    if (!(error instanceof DnsError)) throw error;
    if (error.code === "ENOTFOUND") throw failed("5.1.2", `domain ${domain} does not exist`);
    if (error.code !== "ENODATA") throw deferred("4.4.3", `DNS lookup failed: ${error.message}`, "dns");
    return await implicitHost(domain, options, signal);
  }
  if (records.length === 1 && records[0]!.exchange === "") {
    throw failed("5.1.10", `domain ${domain} takes no mail (null MX)`);
  }
  const sorted = records.filter(({ exchange }) => exchange !== "")
    .map((record) => ({ ...record, tie: options.random() }))
    .sort((a, b) => a.preference - b.preference || a.tie - b.tie);
  const own = sorted.find(({ exchange }) => exchange.toLowerCase() === options.hostname.toLowerCase());
  const usable = own ? sorted.filter(({ preference }) => preference < own.preference) : sorted;
  if (usable.length === 0) {
    throw failed(
      "5.4.6",
      `mail for ${domain} loops back to us: we are its best MX, but it is no domain of ours`,
    );
  }
  return [...new Set(usable.map(({ exchange }) => exchange.toLowerCase()))];
}

/** No MX: the domain itself, if it has an address (RFC 5321 §5.1). */
async function implicitHost(domain: string, options: RouteOptions, signal?: AbortSignal): Promise<string[]> {
  try {
    await lookup(domain, options, signal);
  } catch (error) {
    if (error instanceof NoRoute && error.outcome.kind === "deferred" && error.outcome.status === "4.4.4") {
      throw failed("5.1.2", `domain ${domain} has neither MX nor address`);
    }
    throw error;
  }
  return [domain.toLowerCase()];
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
