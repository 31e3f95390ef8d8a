/** A DNS responder whose answers come from a function: a thousand domains need no thousand lines. */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import packet from "dns-packet";

/** One record of an answer. */
export type ZoneRecord =
  | { readonly type: "MX"; readonly preference: number; readonly exchange: string }
  | { readonly type: "A"; readonly address: string };

interface Query {
  readonly id: number;
  readonly questions: readonly { readonly name: string; readonly type: string }[];
}

/** The part of dns-packet that is used here; it comes without types. */
const codec: { decode(bytes: Uint8Array): Query; encode(reply: object): Uint8Array } = packet;

const AUTHORITATIVE = 1 << 10;
const NAME_ERROR = 3;
const TTL = 3600;

/**
 * Answers UDP queries on 127.0.0.1 until disposed. `recordsOf` gives all records of a name in lower case; undefined
 * where the name does not exist.
 */
export class Zone implements AsyncDisposable {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async start(recordsOf: (name: string) => readonly ZoneRecord[] | undefined): Promise<Zone> {
    const socket = createSocket("udp4");
    socket.on("message", (bytes: Uint8Array, from: RemoteInfo) => {
      socket.send(answer(codec.decode(bytes), recordsOf), from.port, from.address);
    });
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    return new Zone(socket);
  }

  get port(): number {
    return (this.#socket.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }
}

function answer(query: Query, recordsOf: (name: string) => readonly ZoneRecord[] | undefined): Uint8Array {
  const { name = "", type = "" } = query.questions[0] ?? {};
  const records = recordsOf(name.toLowerCase());
  return codec.encode({
    type: "response",
    id: query.id,
    flags: AUTHORITATIVE | (records ? 0 : NAME_ERROR),
    questions: query.questions,
    answers: (records ?? []).filter((record) => record.type === type).map((record) => ({
      name,
      type,
      ttl: TTL,
      data: record.type === "A"
        ? record.address
        : { preference: record.preference, exchange: record.exchange },
    })),
  });
}
