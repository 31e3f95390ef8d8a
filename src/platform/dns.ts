/**
 * A stub resolver. Deno's and Node's report a broken name server as "not found", which would bounce mail in a DNS
 * outage, and tell no TTL: this one keeps apart what is not there from what could not be asked.
 */
import type { Answer } from "dns-packet";
import type { Clock } from "./clock.ts";
import { askServer, type NameServer, type RecordType, type WireAnswer } from "./dns_wire.ts";

/** Why there is no answer. `ENOTFOUND`: no such name; `ENODATA`: no such record; all others are temporary. */
export type DnsCode = "ENOTFOUND" | "ENODATA" | "ESERVFAIL" | "EREFUSED" | "ETIMEOUT";

/** Thrown when a question has no answer. */
export class DnsError extends Error {
  override readonly name = "DnsError";
  constructor(readonly code: DnsCode, readonly hostname: string, readonly type: string, detail: string) {
    super(`${type} ${hostname}: ${detail}`);
  }

  /** True when asking again later may help. */
  get temporary(): boolean {
    return this.code !== "ENOTFOUND" && this.code !== "ENODATA";
  }
}

/** Records of one name and type. */
export interface Records<T> {
  readonly records: readonly T[];
  /** Seconds the answer may be kept. */
  readonly ttl: number;
  /** The answer was validated by a resolver on this machine. */
  readonly secure: boolean;
}

export interface MxRecord {
  readonly preference: number;
  /** Without a dot at its end; "" in a null MX (RFC 7505). */
  readonly exchange: string;
}

/** What mail delivery asks of DNS. */
export interface Resolver {
  mx(name: string, signal?: AbortSignal): Promise<Records<MxRecord>>;
  a(name: string, signal?: AbortSignal): Promise<Records<string>>;
  aaaa(name: string, signal?: AbortSignal): Promise<Records<string>>;
  txt(name: string, signal?: AbortSignal): Promise<Records<string>>;
}

export interface ResolverOptions {
  readonly servers: readonly NameServer[];
  readonly clock: Clock;
  /** Makes the ids of questions: must not be guessable. Default: the system's generator. */
  readonly random?: () => number;
  /** Per server and try, in milliseconds. */
  readonly timeout?: number;
  readonly tries?: number;
}

/** Answers kept at most, and how long at most, in seconds. */
const MAX_ENTRIES = 10_000;
const MAX_TTL = 86_400;
/** A negative answer without an SOA is kept this long (RFC 2308 §5 bounds it by the SOA). */
const NEGATIVE_TTL = 60;
const MAX_NEGATIVE_TTL = 900;
const MAX_CNAMES = 8;

interface Cached {
  readonly result: Records<Answer> | DnsError;
  readonly until: number;
}

/** A caching resolver over the given servers. */
export function createResolver(options: ResolverOptions): Resolver {
  const { clock } = options;
  const cache = new Map<string, Cached>();
  const asking = new Map<string, Promise<Records<Answer>>>();

  async function lookup(name: string, type: RecordType, signal?: AbortSignal): Promise<Records<Answer>> {
    const key = `${type} ${name.toLowerCase().replace(/\.$/, "")}`;
    const cached = cache.get(key);
    if (cached && cached.until > clock.monotonic()) {
      // Least recently used goes first: a used entry moves to the end.
      cache.delete(key);
      cache.set(key, cached);
      if (cached.result instanceof DnsError) throw cached.result;
      return cached.result;
    }
    let question = asking.get(key);
    if (!question) {
      question = ask(key, name.replace(/\.$/, ""), type).finally(() => asking.delete(key));
      question.catch(() => {});
      asking.set(key, question);
    }
    return await abortable(question, signal);
  }

  async function ask(key: string, name: string, type: RecordType): Promise<Records<Answer>> {
    if (!isDomainName(name)) throw new DnsError("ENOTFOUND", name, type, "no domain name");
    try {
      const result = await follow(name, type);
      keep(key, result, Math.min(result.ttl, MAX_TTL));
      return result;
    } catch (error) {
      if (error instanceof NegativeAnswer) {
        keep(key, error.error, error.ttl);
        throw error.error;
      }
      throw error;
    }
  }

  /** Resolvers send an alias along with its records; from one that does not, the rest is asked for. */
  async function follow(name: string, type: RecordType): Promise<Records<Answer>> {
    let [owner, ttl, secure] = [name, MAX_TTL, true];
    for (let i = 0; i < MAX_CNAMES; i++) {
      const asked = await askServers(options, owner, type);
      const found = recordsOf(asked.answer, owner, type);
      secure &&= asked.secure;
      ttl = Math.min(ttl, found.ttl);
      if (found.records.length > 0) return { records: found.records, ttl, secure };
      owner = found.owner;
    }
    throw new DnsError("ESERVFAIL", name, type, `more than ${MAX_CNAMES} aliases`);
  }

  function keep(key: string, result: Records<Answer> | DnsError, ttl: number): void {
    cache.delete(key);
    if (ttl <= 0) return;
    cache.set(key, { result, until: clock.monotonic() + ttl * 1000 });
    if (cache.size > MAX_ENTRIES) cache.delete(cache.keys().next().value!);
  }

  async function records<T>(
    name: string,
    type: RecordType,
    read: (answer: Answer) => T,
    signal?: AbortSignal,
  ): Promise<Records<T>> {
    const found = await lookup(name, type, signal);
    return { ...found, records: found.records.map(read) };
  }

  return {
    mx: (name, signal) => records(name, "MX", readMx, signal),
    a: (name, signal) => records(name, "A", (answer) => String((answer as { data: unknown }).data), signal),
    aaaa: (name, signal) =>
      records(name, "AAAA", (answer) => String((answer as { data: unknown }).data), signal),
    txt: (name, signal) => records(name, "TXT", readTxt, signal),
  };
}

/** Name servers of a resolv.conf; without any, the one on this machine (resolv.conf(5)). */
export function parseResolvConf(text: string): NameServer[] {
  const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, host]) => ({
    host: host!.replace(/%.*$/, ""),
    port: 53,
  }));
  return servers.length > 0 ? servers : [{ host: "127.0.0.1", port: 53 }];
}

async function askServers(
  { servers, clock, random = secureRandom, timeout = 3_000, tries = 2 }: ResolverOptions,
  name: string,
  type: RecordType,
): Promise<{ answer: WireAnswer; secure: boolean }> {
  let failure = new DnsError("ETIMEOUT", name, type, "no name server answered");
  for (let attempt = 0; attempt < tries; attempt++) {
    for (const server of servers) {
      const where = `${server.host}:${server.port}`;
      const stop = new AbortController();
      const timer = clock.sleep(timeout * (attempt + 1), stop.signal).then(
        () => stop.abort(new DnsError("ETIMEOUT", name, type, `${where} did not answer`)),
        () => {},
      );
      try {
        const answer = await askServer(server, name, type, { random, signal: stop.signal });
        if (answer.rcode === "NOERROR" || answer.rcode === "NXDOMAIN") {
          return { answer, secure: answer.authenticData && isLoopback(server.host) };
        }
        const code = answer.rcode === "REFUSED" ? "EREFUSED" : "ESERVFAIL";
        failure = new DnsError(code, name, type, `${where} answered ${answer.rcode}`);
      } catch (error) {
        failure = error instanceof DnsError ? error : new DnsError(
          "ETIMEOUT",
          name,
          type,
          `${where}: ${error instanceof Error ? error.message : error}`,
        );
      } finally {
        stop.abort();
        await timer;
      }
    }
  }
  throw failure;
}

/** An answer that says there is nothing, and for how long that holds. */
class NegativeAnswer extends Error {
  constructor(readonly error: DnsError, readonly ttl: number) {
    super(error.message);
  }
}

/**
 * Records of the last name in the chain of aliases; none where the chain breaks off at `owner`, which is then asked
 * for. @throws {NegativeAnswer} where the answer says that there is nothing.
 */
function recordsOf(
  answer: WireAnswer,
  name: string,
  type: RecordType,
): { records: Answer[]; ttl: number; owner: string } {
  let owner = name.toLowerCase();
  let ttl = MAX_TTL;
  for (let i = 0; i < MAX_CNAMES; i++) {
    const alias = answer.answers.find((each) => each.type === "CNAME" && lower(each.name) === owner);
    if (!alias) break;
    ttl = Math.min(ttl, ttlOf(alias));
    owner = lower(String((alias as { data: unknown }).data));
  }
  const records = answer.answers.filter((each) => each.type === type && lower(each.name) === owner);
  const soa = answer.authorities.some((each) => each.type === "SOA");
  const unfinished = owner !== name.toLowerCase() && !soa && answer.rcode === "NOERROR";
  if (records.length === 0 && !unfinished) {
    const missing = answer.rcode === "NXDOMAIN";
    throw new NegativeAnswer(
      new DnsError(
        missing ? "ENOTFOUND" : "ENODATA",
        name,
        type,
        missing ? "no such domain" : "no such record",
      ),
      negativeTtl(answer.authorities),
    );
  }
  for (const record of records) ttl = Math.min(ttl, ttlOf(record));
  return { records, ttl, owner };
}

/** What fits into a question (RFC 1035 §2.3.4); anything else can't exist, and must not be sent mangled. */
function isDomainName(name: string): boolean {
  const octets = new TextEncoder().encode(name).length;
  return octets > 0 && octets <= 253 &&
    name.split(".").every((label) => label !== "" && new TextEncoder().encode(label).length <= 63);
}

function negativeTtl(authorities: readonly Answer[]): number {
  const soa = authorities.find((each) => each.type === "SOA");
  if (!soa || soa.type !== "SOA") return NEGATIVE_TTL;
  return Math.min(ttlOf(soa), soa.data.minimum ?? NEGATIVE_TTL, MAX_NEGATIVE_TTL);
}

function ttlOf(answer: Answer): number {
  return "ttl" in answer && typeof answer.ttl === "number" ? answer.ttl : 0;
}

function lower(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function readMx(answer: Answer): MxRecord {
  if (answer.type !== "MX") throw new TypeError(`expected MX, got ${answer.type}`);
  const { preference = 0, exchange } = answer.data;
  return { preference, exchange: exchange.replace(/\.$/, "") };
}

function readTxt(answer: Answer): string {
  if (answer.type !== "TXT") throw new TypeError(`expected TXT, got ${answer.type}`);
  const parts = Array.isArray(answer.data) ? answer.data : [answer.data];
  return parts.map((part: string | Uint8Array) =>
    typeof part === "string" ? part : new TextDecoder().decode(part)
  ).join("");
}

function secureRandom(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32;
}

function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1";
}

function abortable<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
