/** Bytes to and from one client: replies gathered into one write, reads with a deadline. */
import type { Clock } from "../platform/clock.ts";
import { type ByteConn, writeAll } from "../platform/tls_server.ts";
import { encodeReply, type Reply } from "../smtp/reply.ts";

/** Read buffer of a client that sends commands; content is read into borrowed, larger ones. */
const IDLE_BUFFER = 2_048;
/** Replies held back at most: a client that pipelines without end must read some. */
const MAX_HELD = 16_384;
/** Content that must come within one timeout: a trickle does not hold a connection for ever. */
const PROGRESS = 1_024;
/** How long the last words may take. */
const LINGER = 2_000;

const ENCODER = new TextEncoder();

/** Large read buffers, lent for as long as content is read. */
export class BufferPool {
  readonly #free: Uint8Array[] = [];
  readonly #size: number;
  readonly #keep: number;

  /** Keeps `keep` free buffers of `size` bytes. */
  constructor(size = 65_536, keep = 64) {
    this.#size = size;
    this.#keep = keep;
  }

  borrow(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(this.#size);
  }

  giveBack(buffer: Uint8Array): void {
    if (this.#free.length < this.#keep) this.#free.push(buffer);
  }
}

/** One connection's bytes. It owns the connection. */
export class Wire {
  readonly #clock: Clock;
  readonly #timeout: number;
  readonly #idle = new Uint8Array(IDLE_BUFFER);
  #conn: ByteConn;
  #out = "";
  #deadline: number;
  #progress = 0;
  #early: Promise<number | null> | undefined;
  #reading = false;
  #writing = false;
  #closed = false;
  #onClose: (() => void) | undefined;

  /** @param timeout milliseconds a client may take for one step. */
  constructor(conn: ByteConn, clock: Clock, timeout: number) {
    this.#conn = conn;
    this.#clock = clock;
    this.#timeout = timeout;
    this.#deadline = clock.monotonic() + timeout;
  }

  /** Monotonic time by which the client must have done what we wait for; Infinity while we work. */
  get deadline(): number {
    return this.#deadline;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The client may be told something: nothing is being written, and we wait for it to speak. */
  get listening(): boolean {
    return this.#reading && !this.#writing && !this.#closed;
  }

  /** The client's time starts anew. */
  restartTimer(timeout = this.#timeout): void {
    this.#deadline = this.#clock.monotonic() + timeout;
    this.#progress = 0;
  }

  /** What follows is our work: no timeout. */
  stopTimer(): void {
    this.#deadline = Infinity;
  }

  /**
   * Whether the client speaks already: bytes that are there at accept are seen within one turn of the event loop,
   * which a timer of 0 takes (1 to 2 ms; nothing shorter lets a read end). What was read is given out by the next {@linkcode read}.
   */
  async speaksFirst(): Promise<boolean> {
    let spoke = false;
    this.#early = this.#conn.read(this.#idle);
    // A failed read shows up where it is awaited.
    this.#early.then((size) => spoke = size !== null, () => {});
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
    return spoke;
  }

  /** Reads commands; undefined at the end. The view is valid until the next read. */
  async read(): Promise<Uint8Array | undefined> {
    const early = this.#early;
    this.#early = undefined;
    this.#reading = true;
    try {
      const size = await (early ?? this.#conn.read(this.#idle));
      return size === null ? undefined : this.#idle.subarray(0, size);
    } finally {
      this.#reading = false;
    }
  }

  /** Reads content into `buffer`; undefined at the end. Bytes that come renew the client's time. */
  async readInto(buffer: Uint8Array): Promise<Uint8Array | undefined> {
    this.#reading = true;
    const size = await this.#conn.read(buffer).finally(() => this.#reading = false);
    if (size === null) return undefined;
    this.#progress += size;
    if (this.#progress >= PROGRESS) this.restartTimer();
    return buffer.subarray(0, size);
  }

  /** Adds a reply to what goes out with the next flush. */
  reply(reply: Reply): void {
    this.#out += encodeReply(reply);
  }

  /** True when so much is held back that it should go out. */
  get full(): boolean {
    return this.#out.length > MAX_HELD;
  }

  /** Sends what is held back. */
  async flush(): Promise<void> {
    if (this.#out === "") return;
    const bytes = ENCODER.encode(this.#out);
    this.#out = "";
    this.#writing = true;
    try {
      // One write nearly always; a small one never waits.
      const written = await this.#conn.write(bytes);
      if (written < bytes.length) await writeAll(this.#conn, bytes.subarray(written));
    } finally {
      this.#writing = false;
    }
  }

  /**
   * Puts TLS in the place of the plain connection.
   * @throws when `upgrade` does, or when this is closed meanwhile.
   */
  async upgrade(upgrade: (conn: ByteConn) => Promise<ByteConn>): Promise<void> {
    const closed = Promise.withResolvers<never>();
    this.#onClose = () => closed.reject(new Error("connection closed during the TLS handshake"));
    const upgraded = upgrade(this.#conn);
    try {
      this.#conn = await Promise.race([upgraded, closed.promise]);
    } catch (error) {
      // A handshake that ends after all finds nobody.
      upgraded.then((conn) => conn.close(), () => {});
      throw error;
    } finally {
      this.#onClose = undefined;
    }
  }

  /** Says a last word, if the client may be listening, and closes. The pending read then ends. Never throws. */
  hangUp(reply: Reply): void {
    if (!this.listening) return this.close();
    this.#writing = true;
    this.#deadline = this.#clock.monotonic() + LINGER;
    this.#conn.write(ENCODER.encode(encodeReply(reply))).then(() => this.close(), () => this.close());
  }

  /** Closes at once. Never throws. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose?.();
    try {
      this.#conn.close();
    } catch {
      // Gone already.
    }
  }
}
