/** An SMTP receiver over a real socket that answers as scripted: replies, silence, garbage, a closed connection. */

/**
 * What is done at one point: a reply without its CRLF, `""` for silence, `close`, or `<reply>|close`. Of a list the
 * next each time, the last again and again.
 */
export type Step = string | readonly string[] | ((line: string) => string);

/** Points of the dialog: `connect`, verbs, `body` (at the first bytes of content), `dot` (content has ended). */
export type Script = Readonly<Record<string, Step>>;

/** One connection as the receiver saw it. */
export interface SeenConnection {
  readonly commands: string[];
  /** Content of each transaction as it came over the wire, dot-stuffed, with its end; or the octets of BDAT. */
  readonly contents: Uint8Array[];
  /** Bytes that came with each read, in all. */
  reads: number;
  closed: boolean;
}

const ANSWERS: Script = {
  connect: "220 mx.test ESMTP",
  EHLO: "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES",
  HELO: "250 mx.test",
  MAIL: "250 2.1.0 ok",
  RCPT: "250 2.1.5 ok",
  DATA: "354 go on",
  body: "",
  BDAT: "250 2.0.0 chunk",
  dot: "250 2.0.0 queued",
  RSET: "250 2.0.0 reset",
  QUIT: "221 2.0.0 bye|close",
};

/** Listens until disposed. */
export class ScriptedReceiver implements AsyncDisposable {
  readonly connections: SeenConnection[] = [];
  script: Script;
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.Conn>();
  readonly #used = new Map<string, number>();
  readonly #running: Promise<void>;

  private constructor(listener: Deno.TcpListener, script: Script) {
    this.#listener = listener;
    this.script = script;
    this.#running = this.#accept();
  }

  static start(script: Script = {}, address = "127.0.0.1", port = 0): ScriptedReceiver {
    return new ScriptedReceiver(Deno.listen({ hostname: address, port }), script);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  get address(): string {
    return this.#listener.addr.hostname;
  }

  /** All commands of all connections. */
  get commands(): string[] {
    return this.connections.flatMap(({ commands }) => commands);
  }

  get contents(): Uint8Array[] {
    return this.connections.flatMap(({ contents }) => contents);
  }

  get openConnections(): number {
    return this.#open.size;
  }

  /** Sends text on every open connection, unasked. */
  async say(text: string): Promise<void> {
    for (const conn of this.#open) await conn.write(new TextEncoder().encode(text));
  }

  /** Closes every open connection. */
  hangUp(): void {
    for (const conn of this.#open) conn.close();
    this.#open.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.hangUp();
    await this.#running;
  }

  async #accept(): Promise<void> {
    const running: Promise<void>[] = [];
    for await (const conn of this.#listener) {
      conn.setNoDelay(true);
      const seen: SeenConnection = { commands: [], contents: [], reads: 0, closed: false };
      this.connections.push(seen);
      this.#open.add(conn);
      running.push(
        this.#serve(conn, seen).catch(() => {}).finally(() => {
          seen.closed = true;
          if (this.#open.delete(conn)) conn.close();
        }),
      );
    }
    await Promise.all(running);
  }

  /** Takes the step for `point`; false when the connection is closed now. */
  async #step(conn: Deno.Conn, point: string, line: string): Promise<boolean> {
    const step = this.script[point] ?? ANSWERS[point] ?? "502 5.5.1 what?";
    let text: string;
    if (typeof step === "function") text = step(line);
    else if (typeof step === "string") text = step;
    else {
      const used = this.#used.get(point) ?? 0;
      this.#used.set(point, used + 1);
      text = step[Math.min(used, step.length - 1)]!;
    }
    const close = text === "close" || text.endsWith("|close");
    const reply = text === "close" ? "" : text.replace(/\|close$/, "");
    if (reply !== "") await conn.write(new TextEncoder().encode(reply + "\r\n"));
    return !close;
  }

  async #serve(conn: Deno.Conn, seen: SeenConnection): Promise<void> {
    const input = new Input(conn, seen);
    if (!await this.#step(conn, "connect", "")) return;
    for (;;) {
      const line = await input.line();
      if (line === undefined) return;
      seen.commands.push(line);
      const verb = line.split(" ")[0]!.toUpperCase();
      if (verb === "BDAT") {
        const [, size, last] = line.split(" ");
        seen.contents.push(await input.exactly(Number(size)));
        if (!await this.#step(conn, last ? "dot" : "BDAT", line)) return;
        continue;
      }
      let asked = "";
      const script = this.script;
      if (verb === "DATA") {
        const step = script.DATA ?? ANSWERS.DATA!;
        asked = typeof step === "function" ? step(line) : typeof step === "string" ? step : "";
      }
      if (!await this.#step(conn, verb, line)) return;
      if (verb === "DATA" && asked.startsWith("354")) {
        if (!await input.some()) return;
        if (!await this.#step(conn, "body", "")) return;
        const content = await input.content();
        if (!content) return;
        seen.contents.push(content);
        if (!await this.#step(conn, "dot", "")) return;
      }
    }
  }
}

const END = [13, 10, 46, 13, 10];

/** Bytes of a connection, by line, by number, or up to the end of data. */
class Input {
  readonly #conn: Deno.Conn;
  readonly #seen: SeenConnection;
  #have = new Uint8Array(0);

  constructor(conn: Deno.Conn, seen: SeenConnection) {
    this.#conn = conn;
    this.#seen = seen;
  }

  async line(): Promise<string | undefined> {
    for (;;) {
      const end = this.#have.indexOf(10);
      if (end >= 0) return new TextDecoder().decode(this.#take(end + 1)).trimEnd();
      if (!await this.#more()) return undefined;
    }
  }

  async exactly(length: number): Promise<Uint8Array> {
    while (this.#have.length < length) if (!await this.#more()) throw new Error("closed early");
    return this.#take(length);
  }

  async some(): Promise<boolean> {
    return this.#have.length > 0 || await this.#more();
  }

  /** Everything up to CRLF.CRLF (or `.` CRLF at the very start), nothing taken out. */
  async content(): Promise<Uint8Array | undefined> {
    const chunks: Uint8Array[] = [];
    let tail = Uint8Array.of(13, 10);
    for (;;) {
      if (this.#have.length === 0 && !await this.#more()) return undefined;
      const window = concat([tail, this.#have]);
      const at = indexOf(window, END);
      if (at >= 0) {
        chunks.push(this.#take(at + END.length - tail.length));
        return concat(chunks);
      }
      chunks.push(this.#take(this.#have.length));
      tail = window.slice(-4);
    }
  }

  async #more(): Promise<boolean> {
    const buffer = new Uint8Array(64 * 1024);
    const count = await this.#conn.read(buffer);
    if (count === null) return false;
    this.#seen.reads++;
    this.#have = concat([this.#have, buffer.subarray(0, count)]);
    return true;
  }

  #take(length: number): Uint8Array<ArrayBuffer> {
    const taken = this.#have.slice(0, length);
    this.#have = this.#have.slice(length);
    return taken;
  }
}

/** The parts in one piece. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function indexOf(bytes: Uint8Array, wanted: readonly number[]): number {
  for (let i = bytes.indexOf(wanted[0]!); i >= 0; i = bytes.indexOf(wanted[0]!, i + 1)) {
    if (wanted.every((byte, j) => bytes[i + j] === byte)) return i;
  }
  return -1;
}
