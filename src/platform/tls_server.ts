/** TLS on accepted connections, STARTTLS and implicit alike: `Deno.startTls` is for clients only. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import { createSecureContext, type SecureContext, TLSSocket } from "node:tls";

/** The part of `Deno.Conn` a dialog needs, in the clear or over TLS. */
export interface ByteConn {
  /** Fills the start of `buffer`; null at the end. @throws when the connection is lost or closed. */
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

/** A connection after its handshake. */
export interface TlsByteConn extends ByteConn {
  /** `TLSv1.3`. */
  readonly protocol: string;
  readonly cipher: string;
}

const READ_SIZE = 16_384;
/** Milliseconds that close_notify may take. */
const CLOSE_TIMEOUT = 1_000;

/**
 * Makes the handshake as the server. The plain connection belongs to the result, and is closed when this fails.
 * Closing `conn` meanwhile ends the wait.
 * @throws {Error} when the handshake fails.
 */
export async function startTlsServer(conn: ByteConn, secureContext: SecureContext): Promise<TlsByteConn> {
  let onEnd = () => {};
  const raw = duplexOf(conn, () => onEnd());
  // Errors may come more than once, and after the first nobody waits: unheard they would end the process.
  raw.on("error", () => {});
  const socket = new TLSSocket(raw as never, { isServer: true, secureContext });
  socket.on("error", () => {});
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("secure", resolve);
      socket.once("error", reject);
      raw.once("error", reject);
      const closed = () => reject(new Error("connection closed during the TLS handshake"));
      socket.once("close", closed);
      raw.once("close", closed);
      // TLSSocket does not always notice that no more bytes will come.
      onEnd = closed;
    });
  } catch (error) {
    socket.destroy();
    raw.destroy();
    throw error;
  }
  const secured = new TlsConn(socket, raw);
  // What came before the end is decrypted first.
  onEnd = () => setImmediate(() => secured.noMoreBytes());
  return secured;
}

class TlsConn implements TlsByteConn {
  readonly protocol: string;
  readonly cipher: string;
  readonly #socket: TLSSocket;
  readonly #raw: Duplex;
  #rest: Uint8Array | undefined;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: TLSSocket, raw: Duplex) {
    this.#socket = socket;
    this.#raw = raw;
    this.protocol = socket.getProtocol() ?? "TLS";
    this.cipher = socket.getCipher()?.standardName ?? socket.getCipher()?.name ?? "";
    const end = (error?: Error) => {
      this.#ended = true;
      this.#error ??= error;
      this.#wake?.();
    };
    socket.on("readable", () => this.#wake?.());
    socket.on("end", () => end());
    socket.on("close", () => end());
    socket.on("error", end);
    raw.on("error", end);
    raw.on("close", () => end());
  }

  /** The client sends nothing more; what is decrypted already can still be read. */
  noMoreBytes(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    for (;;) {
      const chunk = this.#rest ?? this.#socket.read() as Uint8Array | null;
      if (chunk !== null) {
        const size = Math.min(chunk.length, buffer.length);
        buffer.set(size === chunk.length ? chunk : chunk.subarray(0, size));
        this.#rest = size < chunk.length ? chunk.subarray(size) : undefined;
        return size;
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#error || this.#socket.destroyed) {
        return reject(this.#error ?? new Error("connection is closed"));
      }
      const gone = () => reject(this.#error ?? new Error("connection closed while writing"));
      this.#socket.once("close", gone);
      this.#socket.write(bytes, (error) => {
        this.#socket.off("close", gone);
        if (error) reject(error);
        else resolve(bytes.length);
      });
    });
  }

  close(): void {
    this.#ended = true;
    this.#wake?.();
    // end() sends close_notify; a client that does not read is not waited for.
    const gone = () => {
      clearTimeout(timer);
      this.#socket.destroy();
      this.#raw.destroy();
    };
    const timer = setTimeout(gone, CLOSE_TIMEOUT);
    this.#socket.end(gone);
  }
}

/** A node stream over a connection, which it owns. `onEnd` hears of the end as soon as it is read. */
function duplexOf(conn: ByteConn, onEnd: () => void): Duplex {
  const buffer = new Uint8Array(READ_SIZE);
  return new Duplex({
    read() {
      conn.read(buffer).then(
        (size) => {
          this.push(size === null ? null : buffer.slice(0, size));
          if (size === null) onEnd();
        },
        (error) => this.destroy(error as Error),
      );
    },
    write(chunk: Uint8Array, _encoding, done) {
      writeAll(conn, chunk).then(() => done(), done);
    },
    destroy(error, done) {
      try {
        conn.close();
      } catch {
        // Closed from elsewhere, by a timeout for one.
      }
      done(error);
    },
  });
}

/** Writes all of `bytes`. */
export async function writeAll(conn: ByteConn, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    written += await conn.write(written === 0 ? bytes : bytes.subarray(written));
  }
}

/** A certificate with its key, as files that may be replaced while we run. */
export class CertificateStore {
  readonly #certPath: string;
  readonly #keyPath: string;
  #context: SecureContext;
  #stamp: string;
  #validTo: Date;

  private constructor(certPath: string, keyPath: string) {
    this.#certPath = certPath;
    this.#keyPath = keyPath;
    this.#stamp = stampOf([certPath, keyPath]);
    const loaded = load(certPath, keyPath);
    this.#context = loaded.context;
    this.#validTo = loaded.validTo;
  }

  /**
   * Loads both PEM files.
   * @throws {Error} naming the file that is missing, no PEM, or does not fit the other.
   */
  static open(certPath: string, keyPath: string): CertificateStore {
    return new CertificateStore(certPath, keyPath);
  }

  /** The context for the next handshake. */
  get context(): SecureContext {
    return this.#context;
  }

  /** When the certificate expires. */
  get validTo(): Date {
    return this.#validTo;
  }

  /**
   * Loads the files again where they changed; true when they did. The old certificate stays in use when the new one
   * is no good, and is not read again until a file changes once more.
   * @throws {Error} as {@linkcode open}.
   */
  refresh(): boolean {
    const stamp = stampOf([this.#certPath, this.#keyPath]);
    if (stamp === this.#stamp) return false;
    this.#stamp = stamp;
    const loaded = load(this.#certPath, this.#keyPath);
    this.#context = loaded.context;
    this.#validTo = loaded.validTo;
    return true;
  }
}

function stampOf(paths: readonly string[]): string {
  return paths.map((path) => {
    try {
      const { mtime, size } = Deno.statSync(path);
      return `${mtime?.getTime()}:${size}`;
    } catch {
      return "missing";
    }
  }).join();
}

function load(certPath: string, keyPath: string): { context: SecureContext; validTo: Date } {
  const cert = readPem(certPath, "certificate");
  const key = readPem(keyPath, "private key");
  const certificate = attempt(`${certPath}: expected a PEM certificate`, () => new X509Certificate(cert));
  const privateKey = attempt(
    `${keyPath}: expected a PEM private key without a passphrase`,
    () => createPrivateKey(key),
  );
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error(`${keyPath}: the key does not belong to the certificate in ${certPath}`);
  }
  return { context: createSecureContext({ cert, key }), validTo: new Date(certificate.validTo) };
}

function readPem(path: string, what: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound;
    throw new Error(
      `${path}: ${missing ? `there is no such ${what} file` : `the ${what} file cannot be read`}`,
    );
  }
}

function attempt<T>(message: string, make: () => T): T {
  try {
    return make();
  } catch {
    throw new Error(message);
  }
}
