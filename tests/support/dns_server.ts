/** A small DNS responder over real sockets, UDP and TCP on one port of 127.0.0.1, answering as scripted. */
import { Buffer } from "node:buffer";
import packet from "dns-packet";

/** A record as dns-packet encodes it, without its owner. */
export interface ScriptedRecord {
  readonly type: string;
  readonly data: unknown;
  readonly ttl?: number;
  /** Default: the name asked for. */
  readonly name?: string;
}

/** What is said to one question. `drop` says nothing; the other words are said in place of records. */
export interface ScriptedAnswer {
  readonly rcode?: "NOERROR" | "NXDOMAIN" | "SERVFAIL" | "REFUSED" | "FORMERR";
  readonly records?: readonly ScriptedRecord[];
  readonly authorities?: readonly ScriptedRecord[];
  /** Over UDP the answer comes empty with TC set. */
  readonly truncate?: boolean;
  readonly authenticated?: boolean;
  readonly drop?: boolean;
  /** Sent before the true answer: with the wrong id, and with another question. */
  readonly forge?: ScriptedRecord;
}

/** A question as it came. */
export interface Asked {
  readonly name: string;
  readonly type: string;
  readonly over: "udp" | "tcp";
  readonly id: number;
  readonly port: number;
  readonly edns: boolean;
}

interface DecodedQuery {
  readonly id: number;
  readonly questions: readonly { readonly name: string; readonly type: string }[];
  readonly additionals: readonly unknown[];
}

/** The part of dns-packet that a server needs, with records of any shape. */
const codec = packet as unknown as {
  decode(bytes: Uint8Array): DecodedQuery;
  encode(reply: object): Uint8Array;
};

const CODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 };
const TRUNCATED = 1 << 9;
const AUTHENTIC = 1 << 5;

/** Answers by name and type; what is not scripted does not exist. */
export class DnsServer implements AsyncDisposable {
  readonly asked: Asked[] = [];
  /** `MX example.com` (name in lower case) to what is said. */
  readonly answers: Map<string, ScriptedAnswer>;
  readonly #udp: Deno.DatagramConn;
  readonly #tcp: Deno.TcpListener;
  readonly #running: Promise<unknown>;

  private constructor(udp: Deno.DatagramConn, tcp: Deno.TcpListener, answers: Map<string, ScriptedAnswer>) {
    this.#udp = udp;
    this.#tcp = tcp;
    this.answers = answers;
    this.#running = Promise.all([this.#serveUdp(), this.#serveTcp()]);
  }

  static start(
    answers: Readonly<Record<string, ScriptedAnswer | readonly ScriptedRecord[]>> = {},
  ): DnsServer {
    const script = new Map(
      Object.entries(answers).map(([key, answer]) => [key, isList(answer) ? { records: answer } : answer]),
    );
    for (;;) {
      const tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      try {
        const udp = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: tcp.addr.port });
        return new DnsServer(udp, tcp, script);
      } catch (error) {
        tcp.close();
        if (!(error instanceof Deno.errors.AddrInUse)) throw error;
      }
    }
  }

  get server(): { host: string; port: number } {
    return { host: "127.0.0.1", port: this.#tcp.addr.port };
  }

  /** How often `MX example.com` was asked for. */
  count(key: string): number {
    return this.asked.filter(({ name, type }) => `${type} ${name}` === key).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close();
    this.#tcp.close();
    await this.#running;
  }

  async #serveUdp(): Promise<void> {
    for await (const [bytes, from] of this.#udp) {
      const query = codec.decode(Buffer.from(bytes));
      const answer = this.#answer(query, "udp", (from as Deno.NetAddr).port);
      if (answer.drop) continue;
      if (answer.forge) {
        const records = { records: [answer.forge] };
        await this.#udp.send(encode({ ...query, id: query.id ^ 1 }, records), from);
        const questions = [{ ...query.questions[0]!, name: "other.test" }];
        await this.#udp.send(encode({ ...query, questions }, records), from);
        await this.#udp.send(Uint8Array.of(1, 2, 3), from);
      }
      await this.#udp.send(
        answer.truncate ? encode(query, {}, TRUNCATED) : encode(query, answer),
        from,
      );
    }
  }

  async #serveTcp(): Promise<void> {
    for await (const conn of this.#tcp) {
      const head = await readExactly(conn, 2);
      const query = codec.decode(Buffer.from(await readExactly(conn, head[0]! * 256 + head[1]!)));
      const reply = encode(query, this.#answer(query, "tcp", (conn.remoteAddr as Deno.NetAddr).port));
      // In two writes, so that the reader has to put it together.
      await conn.write(Uint8Array.of(reply.length >> 8, reply.length & 255, ...reply.subarray(0, 5)));
      await conn.write(reply.subarray(5));
      conn.close();
    }
  }

  #answer(query: DecodedQuery, over: "udp" | "tcp", port: number): ScriptedAnswer {
    const { name, type } = query.questions[0]!;
    this.asked.push({ name, type, over, port, id: query.id, edns: query.additionals.length > 0 });
    const key = `${type} ${name.toLowerCase()}`;
    const known = [...this.answers.keys()].some((each) => each.endsWith(` ${name.toLowerCase()}`));
    return this.answers.get(key) ?? this.answers.get(`* ${name.toLowerCase()}`) ??
      { rcode: known ? "NOERROR" : "NXDOMAIN" };
  }
}

function isList(answer: ScriptedAnswer | readonly ScriptedRecord[]): answer is readonly ScriptedRecord[] {
  return Array.isArray(answer);
}

function encode(query: DecodedQuery, answer: ScriptedAnswer, flags = 0): Uint8Array {
  const name = query.questions[0]!.name;
  const full = (record: ScriptedRecord) => ({ name, ttl: 300, class: "IN", ...record });
  return codec.encode({
    type: "response",
    id: query.id,
    flags: flags | CODES[answer.rcode ?? "NOERROR"] | (answer.authenticated ? AUTHENTIC : 0),
    questions: query.questions,
    answers: (answer.records ?? []).map(full),
    authorities: (answer.authorities ?? []).map(full),
  });
}

async function readExactly(conn: Deno.Conn, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let have = 0; have < length;) {
    const count = await conn.read(bytes.subarray(have));
    if (count === null) throw new Error("closed early");
    have += count;
  }
  return bytes;
}

export const mx = (preference: number, exchange: string): ScriptedRecord => ({
  type: "MX",
  data: { preference, exchange },
});
export const a = (data: string): ScriptedRecord => ({ type: "A", data });
export const aaaa = (data: string): ScriptedRecord => ({ type: "AAAA", data });
export const soa = (ttl: number, minimum: number): ScriptedRecord => ({
  type: "SOA",
  ttl,
  data: { mname: "ns.test", rname: "root.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});
