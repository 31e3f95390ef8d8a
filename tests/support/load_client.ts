/** A client that keeps connections busy and remembers exactly which recipients were answered 250. */

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One connection that has been greeted. */
export class LoadConnection {
  readonly #conn: Deno.Conn;
  readonly #buffer = new Uint8Array(4096);
  #text = "";

  private constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  static async open(port: number): Promise<LoadConnection> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port });
    conn.setNoDelay(true);
    const connection = new LoadConnection(conn);
    try {
      await connection.#expect(220);
      await connection.#write("EHLO load.epoxi.test\r\n");
      await connection.#expect(250);
      return connection;
    } catch (error) {
      conn.close();
      throw error;
    }
  }

  /** Sends one message; resolves at its 250. Throws for any other reply, and where the connection is lost. */
  async send(
    from: string,
    to: readonly string[],
    content: string,
    parameters: { readonly mail?: string; readonly rcpt?: string } = {},
  ): Promise<void> {
    const { mail = "", rcpt = "" } = parameters;
    const rcpts = to.map((address) => `RCPT TO:<${address}> ${rcpt}`.trimEnd() + "\r\n").join("");
    await this.#write(`MAIL FROM:<${from}> ${mail}`.trimEnd() + `\r\n${rcpts}DATA\r\n`);
    await this.#expect(250);
    for (let i = 0; i < to.length; i++) await this.#expect(250);
    await this.#expect(354);
    await this.#write(`${content}\r\n.\r\n`);
    await this.#expect(250);
  }

  close(): void {
    try {
      this.#conn.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }

  async #write(text: string): Promise<void> {
    const bytes = encoder.encode(text);
    for (let sent = 0; sent < bytes.length;) sent += await this.#conn.write(bytes.subarray(sent));
  }

  async #expect(code: number): Promise<void> {
    for (;;) {
      const end = this.#text.indexOf("\r\n");
      if (end < 0) {
        const n = await this.#conn.read(this.#buffer);
        if (n === null) throw new Error(`connection closed where ${code} was expected`);
        this.#text += decoder.decode(this.#buffer.subarray(0, n));
        continue;
      }
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 2);
      if (line[3] === "-") continue;
      if (!line.startsWith(`${code}`)) throw new Error(`${line} where ${code} was expected`);
      return;
    }
  }
}

/** A message of about `size` bytes that carries `id` in its Subject. */
export function loadMessage(id: string, size: number): string {
  const head = `From: <load@epoxi.test>\r\nTo: <sink@epoxi.test>\r\nSubject: ${id}\r\n` +
    `Message-ID: <${id}@load.epoxi.test>\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n\r\n`;
  const line = "x".repeat(76) + "\r\n";
  return head + line.repeat(Math.max(0, Math.ceil((size - head.length) / line.length)));
}
