/** Kinds of values a setting can have: how each is read from text, and written back for people. */
import { isIP, isIPv4, isIPv6 } from "node:net";
import { domainToASCII } from "node:url";
import type { HostPort } from "./config.ts";

/** A value that is not of its kind; the message says what was expected. */
export class Unfit extends Error {
  override readonly name = "Unfit";
}

/** How the text of a setting becomes its value, and back. */
export interface Kind<T> {
  /** @throws {Unfit} */
  readonly parse: (text: string) => T;
  readonly format: (value: T) => string;
}

function unfit(expected: string): never {
  throw new Unfit(expected);
}

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZE_UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

/** Milliseconds: `500ms 30s 5m 4h 4d`. */
export function duration(min = 1): Kind<number> {
  const expected = `a duration such as 500ms, 30s, 5m, 4h or 4d, at least ${
    formatUnits(min, DURATION_UNITS)
  }`;
  return {
    parse: (text) => atLeast(parseUnits(text, DURATION_UNITS), min) ?? unfit(expected),
    format: (value) => formatUnits(value, DURATION_UNITS),
  };
}

/** Bytes: `64KiB 25MiB 2GiB`. */
export function size(min = 1): Kind<number> {
  const expected = `a size such as 512B, 64KiB, 25MiB or 2GiB, at least ${formatUnits(min, SIZE_UNITS)}`;
  return {
    parse: (text) => atLeast(parseUnits(text, SIZE_UNITS), min) ?? unfit(expected),
    format: (value) => formatUnits(value, SIZE_UNITS),
  };
}

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): Kind<number> {
  return {
    parse: (text) => {
      const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
      return value >= min && value <= max ? value : unfit(`a whole number from ${min} to ${max}`);
    },
    format: String,
  };
}

/** One of a few words. */
export function oneOf<const T extends string>(...words: readonly T[]): Kind<T> {
  return {
    parse: (text) => words.find((word) => word === text) ?? unfit(`one of ${words.join(", ")}`),
    format: (value) => value,
  };
}

/** Text that matches a pattern. */
export function text(expected: string, pattern: RegExp): Kind<string> {
  return { parse: (value) => pattern.test(value) ? value : unfit(expected), format: (value) => value };
}

/** A path of a file or folder. */
export const path: Kind<string> = text(
  "a path on one line",
  // deno-lint-ignore no-control-regex
  /^[^\x00-\x1f]+$/,
);

/** A comma-separated list; an empty text is the empty list. `unique` names what may occur only once. */
export function list<T>(kind: Kind<T>, unique?: (value: T) => string | undefined): Kind<readonly T[]> {
  return {
    parse(whole) {
      const items = whole.split(",").map((item) => item.trim()).filter((item) => item !== "");
      const values = items.map((item) => {
        try {
          return kind.parse(item);
        } catch (error) {
          throw error instanceof Unfit && items.length > 1
            ? new Unfit(`${error.message} as entry ${items.indexOf(item) + 1} of the list`)
            : error;
        }
      });
      const seen = new Set<string>();
      for (const value of unique ? values : []) {
        const name = unique!(value);
        if (name === undefined) continue;
        if (seen.has(name)) unfit(`each entry once, but ${name} is there twice`);
        seen.add(name);
      }
      return Object.freeze(values);
    },
    format: (values) => values.map(kind.format).join(","),
  };
}

/** `kind`, or undefined where nothing is set. */
export function optional<T>(kind: Kind<T>): Kind<T | undefined> {
  return { parse: kind.parse, format: (value) => value === undefined ? "" : kind.format(value) };
}

/** `host:port`, `1.2.3.4:port` or `[::1]:port`. `anyPort`: port 0 stands for a free one. */
export function hostPort(anyPort: boolean): Kind<HostPort> {
  return {
    parse: (value) => parseHostPort(value, anyPort ? 0 : 1) ?? unfit("host:port or [IPv6 address]:port"),
    format: formatHostPort,
  };
}

/** `ip` or `ip:port`; `[ip]:port` for IPv6. */
export function addressWithPort(defaultPort: number): Kind<HostPort> {
  return {
    parse(value) {
      if (isIP(value)) return { host: value, port: defaultPort };
      const parsed = parseHostPort(value, 1);
      return parsed && isIP(parsed.host)
        ? parsed
        : unfit("an IP address, with :port where it is not the usual");
    },
    format: formatHostPort,
  };
}

/** A block of addresses: `10.0.0.0/8`, `::1/128`, or one address. */
export const network: Kind<string> = {
  parse(value) {
    const [address = "", bits, ...rest] = value.split("/");
    const max = isIPv4(address) ? 32 : isIPv6(address) && !address.includes("%") ? 128 : -1;
    if (max < 0 || rest.length > 0) unfit("a network such as 10.0.0.0/8 or 2001:db8::/32");
    if (bits === undefined) return `${address}/${max}`;
    if (!/^\d{1,3}$/.test(bits) || Number(bits) > max) unfit(`a network with a prefix of 0 to ${max} bits`);
    return value;
  },
  format: (value) => value,
};

/** A domain name in lower case; an internationalized one becomes its ASCII form. */
export const domain: Kind<string> = {
  parse: (value) => parseDomain(value) ?? unfit("a domain name such as example.com"),
  format: (value) => value,
};

/** `user@domain`; the domain in lower case. */
export const mailbox: Kind<string> = {
  parse(value) {
    const at = value.lastIndexOf("@");
    const name = parseDomain(value.slice(at + 1));
    // deno-lint-ignore no-control-regex
    const local = /^[^\s@<>"(),:;\\[\]\x00-\x1f\x7f]{1,64}$/.test(value.slice(0, Math.max(0, at)));
    return name !== undefined && local ? `${value.slice(0, at)}@${name}` : unfit("user@domain");
  },
  format: (value) => value,
};

/** `domain=host:port`; the domain `*` stands for every other. */
export const route: Kind<{ readonly domain: string; readonly host: string; readonly port: number }> = {
  parse(value) {
    const equals = value.indexOf("=");
    const left = value.slice(0, Math.max(0, equals)).trim();
    const name = left === "*" ? "*" : parseDomain(left);
    const hop = parseHostPort(value.slice(equals + 1).trim(), 1);
    return name !== undefined && hop ? { domain: name, ...hop } : unfit("domain=host:port, or *=host:port");
  },
  format: (value) => `${value.domain}=${formatHostPort(value)}`,
};

/** `user:password`, both percent-encoded. */
export const user: Kind<{ readonly user: string; readonly password: string }> = {
  parse(value) {
    const colon = value.indexOf(":");
    const name = percentDecode(value.slice(0, Math.max(0, colon)));
    const password = percentDecode(value.slice(colon + 1));
    return name && password ? { user: name, password } : unfit("user:password, both percent-encoded");
  },
  format: (value) => `${encodeURIComponent(value.user)}:***`,
};

/** What an API token may be good for. */
export const SCOPES = ["read", "send", "admin"] as const;

/** `name:token[:scope+scope]`; without scopes it is good for everything. */
export const apiToken: Kind<
  { readonly name: string; readonly token: string; readonly scopes: readonly string[] }
> = {
  parse(value) {
    const [name = "", token = "", scopes, ...rest] = value.split(":");
    const named = scopes === undefined ? [...SCOPES] : scopes.split("+");
    const known = named.every((scope) => SCOPES.some((each) => each === scope));
    return /^[\w.-]{1,64}$/.test(name) && /^[\x21-\x7e]+$/.test(token) && known && rest.length === 0
      ? { name, token, scopes: Object.freeze(named) }
      : unfit("name:token or name:token:scope+scope, with the scopes read, send and admin");
  },
  format: (value) => `${value.name}:***:${value.scopes.join("+")}`,
};

/** A JSON object, kept as text. */
export const jsonObject: Kind<string> = {
  parse(value) {
    let parsed: unknown;
    try {
      parsed = JSON.parse(value);
    } catch (error) {
      unfit(`a JSON object (${error instanceof Error ? error.message : "not JSON"})`);
    }
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) unfit("a JSON object");
    return value;
  },
  format: (value) => `(${value.length} characters of JSON)`,
};

/** True for an address or name of this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host) ||
    /^::ffff:127\.\d+\.\d+\.\d+$/i.test(host);
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatHostPort({ host, port }: HostPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

function parseHostPort(value: string, minPort: number): HostPort | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  if (!match) return undefined;
  const [, bracketed, bare, digits] = match;
  const port = Number(digits);
  if (port < minPort || port > 65535) return undefined;
  if (bracketed !== undefined) return isIPv6(bracketed) ? { host: bracketed, port } : undefined;
  const host = isIPv4(bare!) ? bare! : parseDomain(bare!);
  return host === undefined ? undefined : { host, port };
}

/** A host name of letters, digits and hyphens (RFC 1123 §2.1), in lower case. All-numeric top labels are addresses. */
function parseDomain(value: string): string | undefined {
  const ascii = domainToASCII(value.replace(/\.$/, "")).toLowerCase();
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
  const labels = ascii.split(".");
  return ascii.length <= 253 && labels.every((each) => label.test(each)) && !/^\d+$/.test(labels.at(-1)!)
    ? ascii
    : undefined;
}

function percentDecode(value: string): string | undefined {
  try {
    return decodeURIComponent(value);
  } catch {
    return undefined;
  }
}

function atLeast(value: number | undefined, min: number): number | undefined {
  return value !== undefined && value >= min ? value : undefined;
}

function parseUnits(value: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s?([A-Za-z]+)$/.exec(value);
  const unit = match && Object.hasOwn(units, match[2]!) ? units[match[2]!] : undefined;
  const amount = unit === undefined ? NaN : Math.round(Number(match![1]) * unit);
  return Number.isSafeInteger(amount) ? amount : undefined;
}

/** The value in the largest unit that leaves no fraction. */
function formatUnits(value: number, units: Readonly<Record<string, number>>): string {
  const [name, unit] = Object.entries(units).findLast(([, each]) => value >= each && value % each === 0) ??
    Object.entries(units)[0]!;
  return `${value / unit}${name}`;
}
