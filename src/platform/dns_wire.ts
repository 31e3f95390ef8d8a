/** One DNS question to one server: UDP first, TCP where the answer does not fit (RFC 1035, 6891, 7766). */
import { Buffer } from "node:buffer";
import { normalizeIp } from "./ip.ts";
import packet, { type Answer, type DecodedPacket } from "dns-packet";

/** Record types asked for. */
export type RecordType = "A" | "AAAA" | "MX" | "TXT" | "TLSA" | "CNAME" | "PTR";

/** Address of a name server. */
export interface NameServer {
  readonly host: string;
  readonly port: number;
}

/** Payload we take over UDP: fits every path without fragments (DNS flag day 2020). */
const UDP_PAYLOAD = 1232;
/** AD in the query asks for AD in the answer (RFC 6840 §5.7). */
const FLAGS = packet.RECURSION_DESIRED | packet.AUTHENTIC_DATA;

const OPT = {
  type: "OPT" as const,
  name: ".",
  udpPayloadSize: UDP_PAYLOAD,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};

/** Everything in the answer section, and what the header says. */
export interface WireAnswer {
  readonly rcode: string;
  readonly answers: readonly Answer[];
  readonly authorities: readonly Answer[];
  /** The resolver has validated the answer. */
  readonly authenticData: boolean;
}

/**
 * Asks `server`. Each question has a random id and a source port of its own; an answer that does not repeat both id
 * and question is ignored.
 * @throws the signal's reason, or the system's error.
 */
export async function askServer(
  server: NameServer,
  name: string,
  type: RecordType,
  options: { readonly random: () => number; readonly signal: AbortSignal },
): Promise<WireAnswer> {
  const id = Math.floor(options.random() * 65_536);
  const question = { id, name, type };
  const first = await ask(server, question, [OPT], options.signal);
  // A server from before EDNS refuses what it does not know (RFC 6891 §6.2.2).
  const old = first.rcode === "FORMERR" || first.rcode === "NOTIMP";
  return old ? await ask(server, question, [], options.signal) : first;
}

async function ask(
  server: NameServer,
  question: Question,
  additionals: typeof OPT[],
  signal: AbortSignal,
): Promise<WireAnswer> {
  const { id, name, type } = question;
  const query = packet.encode({ type: "query", id, flags: FLAGS, questions: [{ name, type }], additionals });
  const answer = await overUdp(server, query, question, signal);
  const whole = answer.flag_tc ? await overTcp(server, query, question, signal) : answer;
  return {
    rcode: (whole as unknown as { rcode: string }).rcode,
    answers: whole.answers ?? [],
    authorities: whole.authorities ?? [],
    authenticData: whole.flag_ad,
  };
}

interface Question {
  readonly id: number;
  readonly name: string;
  readonly type: RecordType;
}

async function overUdp(
  server: NameServer,
  query: Uint8Array,
  question: Question,
  signal: AbortSignal,
): Promise<DecodedPacket> {
  signal.throwIfAborted();
  const hostname = server.host.includes(":") ? "::" : "0.0.0.0";
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
  const abort = () => closeQuietly(socket);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await socket.send(query, { transport: "udp", hostname: server.host, port: server.port });
    const buffer = new Uint8Array(4096);
    for (;;) {
      const [bytes, from] = await socket.receive(buffer);
      const { hostname: sender, port } = from as Deno.NetAddr;
      if (port !== server.port || normalizeIp(sender) !== normalizeIp(server.host)) continue;
      const answer = decode(bytes, question);
      if (answer) return answer;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    closeQuietly(socket);
  }
}

async function overTcp(
  server: NameServer,
  query: Uint8Array,
  question: Question,
  signal: AbortSignal,
): Promise<DecodedPacket> {
  const conn = await Deno.connect({ hostname: server.host, port: server.port, signal });
  const abort = () => closeQuietly(conn);
  signal.addEventListener("abort", abort, { once: true });
  try {
    const framed = new Uint8Array(query.length + 2);
    new DataView(framed.buffer).setUint16(0, query.length);
    framed.set(query, 2);
    for (let sent = 0; sent < framed.length;) sent += await conn.write(framed.subarray(sent));
    const head = await readExactly(conn, 2);
    const bytes = await readExactly(conn, new DataView(head.buffer).getUint16(0));
    const answer = decode(bytes, question);
    if (!answer) throw new Error(`${server.host} answered another question`);
    return answer;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    closeQuietly(conn);
  }
}

async function readExactly(conn: Deno.Conn, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let have = 0; have < length;) {
    const count = await conn.read(bytes.subarray(have));
    if (count === null) throw new Error("the name server closed the connection");
    have += count;
  }
  return bytes;
}

/** The packet, if it answers our question; anything else is a stray or a forgery. */
function decode(bytes: Uint8Array, { id, name, type }: Question): DecodedPacket | undefined {
  let answer: DecodedPacket;
  try {
    answer = packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  } catch {
    return undefined;
  }
  const asked = answer.questions?.[0];
  const same = answer.type === "response" && answer.id === id && asked?.type === type &&
    asked.name.toLowerCase() === name.toLowerCase();
  return same ? answer : undefined;
}

function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // It is closed already.
  }
}
