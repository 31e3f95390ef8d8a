/**
 * Runs tests/dialogs/*.txt over a real socket. Lines:
 *   @ {…}        options of the server, JSON, first
 *   C: text      client sends text and CRLF; neighbouring C lines go out in one write
 *   C= "text"    client sends a JSON string, nothing added
 *   S: pattern   server sends one line; `…` stands for anything
 *   S* 250       server sends a whole reply with that code, of one line or more
 *   S! text      no line of the last S* has the text
 *   S. closed    server closes
 *   TLS          both make the handshake
 *   ---          next connection
 *   M: 2         messages accepted so far
 *   M+ "text"    the last message's content has the JSON string;   M- "text" has not
 *   E: {…}       the last message's envelope, JSON, has these properties
 *   # comment
 */
import assert from "node:assert/strict";
import { LineClient } from "../support/line_client.ts";
import { startTestServer, type TestServer, type TestServerOptions } from "../support/smtp_server.ts";

const folder = new URL("../dialogs/", import.meta.url);
const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".txt"));

for (const name of names.sort()) {
  Deno.test(`dialog ${name}`, async () => {
    const lines = Deno.readTextFileSync(new URL(name, folder)).split("\n");
    const options = lines.filter((line) => line.startsWith("@ ")).map((line) => JSON.parse(line.slice(2)));
    const server = await startTestServer(Object.assign({}, ...options) as TestServerOptions);
    const dialog = new Dialog(server, name);
    try {
      for (const [i, line] of lines.entries()) await dialog.run(line, i + 1);
      await dialog.end();
    } finally {
      dialog.client?.close();
      await server.stop();
    }
  });
}

Deno.test("there are dialogs", () => assert.ok(names.length >= 10));

class Dialog {
  client: LineClient | undefined;
  readonly #server: TestServer;
  readonly #name: string;
  #pending = "";
  #reply: string[] = [];

  constructor(server: TestServer, name: string) {
    this.#server = server;
    this.#name = name;
  }

  async run(line: string, number: number): Promise<void> {
    const where = `${this.#name}:${number}`;
    const kind = line.slice(0, 2);
    const text = line.slice(3);
    if (kind === "C:") this.#pending += text + "\r\n";
    else if (kind === "C=") this.#pending += JSON.parse(text);
    else if (line === "" || kind === "# " || kind === "@ ") return;
    else await this.#expect(line === "TLS" || line === "---" ? line : kind, text, where);
  }

  async end(): Promise<void> {
    await this.#flush();
  }

  async #flush(): Promise<LineClient> {
    this.client ??= await LineClient.connect(this.#server.port);
    const text = this.#pending;
    this.#pending = "";
    if (text !== "") await this.client.send(text);
    return this.client;
  }

  async #expect(kind: string, text: string, where: string): Promise<void> {
    const client = await this.#flush();
    switch (kind) {
      case "S:":
        return assert.match(`${await client.line()}`, pattern(text), where);
      case "S*":
        this.#reply = await client.reply();
        return assert.ok(this.#reply[0]?.startsWith(text), `${where}: ${this.#reply.join("\n")}`);
      case "S!":
        return assert.ok(
          this.#reply.every((line) => !line.includes(text)),
          `${where}: ${this.#reply.join("\n")}`,
        );
      case "S.":
        return assert.equal(await client.line(), undefined, where);
      case "TLS":
        return await client.startTls();
      case "---":
        client.close();
        this.client = undefined;
        return;
      case "M:":
        return assert.equal(this.#server.acceptor.messages.length, Number(text), where);
      case "M+":
        return assert.ok(this.#last.text.includes(JSON.parse(text)), `${where}: ${this.#last.text}`);
      case "M-":
        return assert.ok(!this.#last.text.includes(JSON.parse(text)), `${where}: ${this.#last.text}`);
      case "E:":
        return assert.partialDeepStrictEqual(this.#last, JSON.parse(text), where);
      default:
        throw new Error(`${where}: unknown line`);
    }
  }

  get #last() {
    return this.#server.acceptor.messages.at(-1)!;
  }
}

function pattern(text: string): RegExp {
  const parts = text.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}
