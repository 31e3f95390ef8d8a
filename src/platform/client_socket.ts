/** An outgoing TCP connection that can be upgraded to TLS: reads with deadlines, writes with back-pressure. */
import { connect, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

/** What went wrong with a connection. */
export type SocketFault = "refused" | "timeout" | "closed" | "tls" | "local" | "network";

/** Thrown by {@linkcode ClientSocket}. */
export class SocketError extends Error {
  override readonly name = "SocketError";
  constructor(readonly fault: SocketFault, message: string) {
    super(message);
  }
}

export interface ConnectTarget {
  /** IP address. */
  readonly address: string;
  readonly port: number;
  /** Milliseconds. */
  readonly timeout: number;
  /** Source address; undefined leaves it to the system. */
  readonly localAddress?: string;
  readonly signal?: AbortSignal;
}

/** How to verify the other side. */
export interface TlsOptions {
  /** For SNI and the certificate's name; an address is not sent as SNI. */
  readonly serverName: string;
  /** Fail unless the certificate is valid for `serverName`. */
  readonly verify: boolean;
  readonly timeout: number;
}

/** What a TLS handshake showed. */
export interface TlsState {
  readonly protocol: string;
  readonly verified: boolean;
  /** Why it is not verified. */
  readonly problem?: string;
}

/** Unread bytes above which the socket is not read any more. */
const HIGH_WATER = 256 * 1024;

/** One connection. */
export class ClientSocket {
  #socket: Socket | TLSSocket;
  #tls: TlsState | undefined;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #error: SocketError | undefined;
  #wakeReader: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#attach(socket);
  }

  /** @throws {SocketError} */
  static connect(target: ConnectTarget): Promise<ClientSocket> {
    const { address, port, timeout, localAddress, signal } = target;
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        socket.removeAllListeners("error");
      };
      const fail = (error: SocketError) => {
        settle();
        // What else goes wrong with it does not matter any more.
        socket.on("error", () => {});
        socket.destroy();
        reject(error);
      };
      const socket = connect({ host: address, port, ...(localAddress ? { localAddress } : {}) });
      const timer = setTimeout(
        () => fail(new SocketError("timeout", `connecting to ${address}:${port} timed out`)),
        timeout,
      );
      const onAbort = () => fail(new SocketError("closed", "stopped"));
      if (signal?.aborted) return onAbort();
      signal?.addEventListener("abort", onAbort, { once: true });
      socket.once("error", (error) => fail(socketError(error, `connecting to ${address}:${port}`)));
      socket.once("connect", () => {
        settle();
        socket.setNoDelay(true);
        resolve(new ClientSocket(socket));
      });
    });
  }

  /** The TLS session, once there is one. */
  get tls(): TlsState | undefined {
    return this.#tls;
  }

  /** Bytes are there that nobody has read. */
  get readable(): boolean {
    return this.#buffered > 0;
  }

  /** Bytes are there, or the connection has ended: an idle connection in this state is of no use any more. */
  get stale(): boolean {
    return this.#error !== undefined || this.#buffered > 0;
  }

  /**
   * The bytes that have come.
   * @throws {SocketError} after `timeout` milliseconds, or when the connection has ended.
   */
  async read(timeout: number): Promise<Uint8Array> {
    if (this.#chunks.length === 0 && !this.#error) await this.#wait(timeout);
    const chunk = this.#chunks.shift();
    if (chunk) {
      this.#buffered -= chunk.length;
      if (this.#buffered < HIGH_WATER) this.#socket.resume();
      return chunk;
    }
    throw this.#error ?? new SocketError("timeout", "timed out waiting for a reply");
  }

  /**
   * Writes bytes; waits while the other side is slow to take them.
   * @throws {SocketError}
   */
  async write(bytes: Uint8Array | string, timeout: number): Promise<void> {
    if (this.#error) throw this.#error;
    if (this.#socket.write(bytes)) return;
    await new Promise<void>((resolve, reject) => {
      const socket = this.#socket;
      const end = (error?: SocketError) => {
        clearTimeout(timer);
        socket.off("drain", onDrain);
        socket.off("close", onClose);
        if (error) reject(error);
        else resolve();
      };
      const onDrain = () => end();
      const onClose = () => end(this.#error ?? new SocketError("closed", "connection closed"));
      const timer = setTimeout(() => end(new SocketError("timeout", "timed out sending")), timeout);
      socket.once("drain", onDrain);
      socket.once("close", onClose);
    });
  }

  /**
   * Upgrades to TLS. What came in the clear before is dropped (CVE-2011-0411).
   * @throws {SocketError} with fault `tls` when the handshake fails.
   */
  async startTls({ serverName, verify, timeout }: TlsOptions): Promise<TlsState> {
    const plain = this.#socket;
    plain.removeAllListeners();
    plain.on("error", () => {});
    this.#chunks = [];
    this.#buffered = 0;
    const isName = !/^[\d.]+$|:/.test(serverName);
    const secure = connectTls({
      socket: plain,
      rejectUnauthorized: false,
      ...(isName ? { servername: serverName } : {}),
      // The name is checked by Node against this where there is no SNI.
      host: serverName,
    });
    await new Promise<void>((resolve, reject) => {
      const fail = (error: SocketError) => {
        clearTimeout(timer);
        secure.destroy();
        reject(error);
      };
      const timer = setTimeout(() => fail(new SocketError("tls", "TLS handshake timed out")), timeout);
      secure.once("error", (error) => fail(new SocketError("tls", `TLS handshake failed: ${error.message}`)));
      secure.once("close", () => fail(new SocketError("tls", "connection closed during the TLS handshake")));
      secure.once("secureConnect", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    secure.removeAllListeners("error");
    secure.removeAllListeners("close");
    const problem = secure.authorized ? undefined : String(secure.authorizationError ?? "not verified");
    this.#socket = secure;
    this.#attach(secure);
    this.#tls = {
      protocol: secure.getProtocol() ?? "TLS",
      verified: secure.authorized,
      ...(problem === undefined ? {} : { problem }),
    };
    if (verify && !secure.authorized) {
      this.destroy();
      throw new SocketError("tls", `certificate of ${serverName} is not valid: ${problem}`);
    }
    return this.#tls;
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#error ??= new SocketError("closed", "connection closed by us");
    this.#socket.destroy();
    this.#wakeReader?.();
  }

  #attach(socket: Socket | TLSSocket): void {
    socket.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      if (this.#buffered >= HIGH_WATER) socket.pause();
      this.#wakeReader?.();
    });
    socket.on("error", (error) => this.#end(socketError(error, "connection")));
    socket.on("end", () => this.#end(new SocketError("closed", "connection closed by the remote host")));
    socket.on("close", () => this.#end(new SocketError("closed", "connection closed by the remote host")));
  }

  #end(error: SocketError): void {
    this.#error ??= error;
    this.#socket.destroy();
    this.#wakeReader?.();
  }

  #wait(timeout: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wakeReader?.(), timeout);
      this.#wakeReader = () => {
        clearTimeout(timer);
        this.#wakeReader = undefined;
        resolve();
      };
    });
  }
}

function socketError(error: Error & { code?: string }, what: string): SocketError {
  const faults: Record<string, SocketFault> = {
    ECONNREFUSED: "refused",
    ETIMEDOUT: "timeout",
    // A source address that is not ours is our fault, not the receiver's.
    EINVAL: "local",
    EADDRNOTAVAIL: "local",
    EMFILE: "local",
    ENFILE: "local",
  };
  const code = error.code ?? "";
  const text = code === "ECONNREFUSED"
    ? "connection refused"
    : code === "ECONNRESET" || code === "EPIPE"
    ? "connection reset by the remote host"
    : error.message;
  return new SocketError(faults[code] ?? "network", `${what}: ${text}`);
}
