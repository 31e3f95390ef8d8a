/** IP addresses and CIDR blocks. */
import { isIPv4, isIPv6 } from "node:net";

/**
 * Bytes of an address: 4 or 16. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`), which is how a dual-stack socket
 * shows an IPv4 client, gives 4. Undefined when `text` is no address.
 */
export function parseIp(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split("."), Number);
  const plain = text.replace(/%.*$/, "");
  if (!isIPv6(plain)) return undefined;
  const bytes = ipv6Bytes(plain);
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff &&
    bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}

/** The usual text of an address: no zone, no IPv4-mapped form; `text` itself when it is no address. */
export function normalizeIp(text: string): string {
  const bytes = parseIp(text);
  if (!bytes) return text;
  return bytes.length === 4 ? bytes.join(".") : text.replace(/%.*$/, "").toLowerCase();
}

/** A block of addresses. */
export interface Cidr {
  readonly bytes: Uint8Array;
  /** Leading bits that count. */
  readonly bits: number;
}

/** @throws {RangeError} unless `text` is `address/bits` or an address. */
export function parseCidr(text: string): Cidr {
  const [address = "", bitsText] = text.split("/");
  const bytes = parseIp(address);
  const wide = bytes?.length === 4 && isIPv6(address) ? 96 : 0;
  const bits = bitsText === undefined ? (bytes?.length ?? 0) * 8 : Number(bitsText) - wide;
  const valid = bytes && /^\d{1,3}$/.test(bitsText ?? "0") && bits >= 0 && bits <= bytes.length * 8;
  if (!valid || text.split("/").length > 2) {
    throw new RangeError(`"${text}" is no CIDR block like 192.0.2.0/24`);
  }
  return { bytes, bits };
}

/** Whether an address lies in a block. */
export function cidrContains({ bytes, bits }: Cidr, address: Uint8Array): boolean {
  if (address.length !== bytes.length) return false;
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== address[i]) return false;
  const mask = 0xff00 >> (bits & 7) & 0xff;
  return (bits & 7) === 0 || (bytes[whole]! & mask) === (address[whole]! & mask);
}

/**
 * A test for "in any of these blocks"; text that is no address is in none.
 * @throws {RangeError} for what is no block.
 */
export function createNetworks(blocks: readonly string[]): (address: string) => boolean {
  const parsed = blocks.map(parseCidr);
  return (address) => {
    const bytes = parseIp(address);
    return bytes !== undefined && parsed.some((block) => cidrContains(block, bytes));
  };
}

/** Whether an address is of this machine: 127.0.0.0/8 or ::1. */
export function isLoopback(address: string): boolean {
  const bytes = parseIp(address);
  if (!bytes) return false;
  if (bytes.length === 4) return bytes[0] === 127;
  return bytes[15] === 1 && bytes.subarray(0, 15).every((byte) => byte === 0);
}

/** What counts as one client: an IPv4 address, or an IPv6 /64, for one customer has all of it. */
export function clientKey(address: string): string {
  const bytes = parseIp(address);
  if (!bytes) return address;
  return bytes.length === 4 ? bytes.join(".") : bytes.subarray(0, 8).toHex();
}

/** Bytes of an IPv6 address that is known to be one. */
function ipv6Bytes(text: string): Uint8Array {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = dotted
    ? `${dotted[1]}${(Number(dotted[2]) * 256 + Number(dotted[3])).toString(16)}:${
      (Number(dotted[4]) * 256 + Number(dotted[5])).toString(16)
    }`
    : text;
  const [head = "", tail] = hex.split("::");
  const groups = (part: string) => part === "" ? [] : part.split(":").map((group) => parseInt(group, 16));
  const [front, back] = [groups(head), groups(tail ?? "")];
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** Blocks that no MX record of the world may lead to (RFC 6890): private, link-local, shared, test, multicast … */
const PRIVATE = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
  "::/127",
  "64:ff9b:1::/48",
  "100::/64",
  "2001:db8::/32",
  "fc00::/7",
  "fe80::/10",
  "ff00::/8",
].map(parseCidr);

/** Whether an address is of no use, or of no good, as the target of an MX record. */
export function isPrivate(address: string): boolean {
  const bytes = parseIp(address);
  return bytes !== undefined && PRIVATE.some((block) => cidrContains(block, bytes));
}
