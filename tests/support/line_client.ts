/** A client that sends what it is told, and reads line by line. */
import { TEST_CERT } from "./smtp_server.ts";

export class LineClient {
  #conn: Deno.TcpConn | Deno.TlsConn;
  #buffer = "";
  readonly #decoder = new TextDecoder();

  constructor(conn: Deno.TcpConn | Deno.TlsConn) {
    this.#conn = conn;
  }

  static async connect(port: number): Promise<LineClient> {
    return new LineClient(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  static async connectTls(port: number): Promise<LineClient> {
    const caCerts = [Deno.readTextFileSync(TEST_CERT)];
    return new LineClient(await Deno.connectTls({ hostname: "127.0.0.1", port, caCerts }));
  }

  async send(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
  }

  /** The next line without CRLF; undefined when the server closed. */
  async line(): Promise<string | undefined> {
    const bytes = new Uint8Array(4096);
    for (;;) {
      const end = this.#buffer.indexOf("\r\n");
      if (end >= 0) {
        const line = this.#buffer.slice(0, end);
        this.#buffer = this.#buffer.slice(end + 2);
        return line;
      }
      const size = await this.#conn.read(bytes).catch((error) => {
        if (error instanceof Deno.errors.ConnectionReset) return null;
        throw error;
      });
      if (size === null) return undefined;
      this.#buffer += this.#decoder.decode(bytes.subarray(0, size), { stream: true });
    }
  }

  /** All lines of the next reply. */
  async reply(): Promise<string[]> {
    const lines: string[] = [];
    for (;;) {
      const line = await this.line();
      if (line === undefined) throw new Error(`closed after ${JSON.stringify(lines)}`);
      lines.push(line);
      if (line[3] !== "-") return lines;
    }
  }

  /** Sends a line; gives the reply as one text. */
  async command(line: string): Promise<string> {
    await this.send(line + "\r\n");
    return (await this.reply()).join("\n");
  }

  async startTls(): Promise<void> {
    const caCerts = [Deno.readTextFileSync(TEST_CERT)];
    const tls = await Deno.startTls(this.#conn as Deno.TcpConn, { hostname: "127.0.0.1", caCerts });
    await tls.handshake();
    this.#conn = tls;
  }

  close(): void {
    try {
      this.#conn.close();
    } catch {
      // Closed already.
    }
  }
}
