/** The addresses under which the world may reach this process. */
import { isIP } from "node:net";
import { isLoopback, normalizeIp } from "./ip.ts";

/** `0.0.0.0` and `::`: a listener on them is on every interface. */
const WILDCARDS = new Set(["0.0.0.0", "::"]);

/**
 * Addresses of listeners on the given port. A wildcard stands for the machine's interfaces, loopback aside; what
 * an address translator in front of us listens on can't be known.
 */
export function ownAddresses(
  listeners: readonly { readonly host: string; readonly port: number }[],
  port: number,
): string[] {
  const hosts = listeners.filter((listener) => listener.port === port).map(({ host }) => host);
  const own = new Set(hosts.filter((host) => isIP(host) && !WILDCARDS.has(host)).map(normalizeIp));
  if (hosts.some((host) => WILDCARDS.has(host))) {
    for (const { address } of Deno.networkInterfaces()) {
      if (!isLoopback(address)) own.add(normalizeIp(address));
    }
  }
  return [...own];
}
