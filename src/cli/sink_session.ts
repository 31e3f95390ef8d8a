/** One connection of a sink. Fast before all: it must not be what a load test measures. */
import { type ByteConn, writeAll } from "../platform/tls_server.ts";
import { DataScanner } from "../smtp/data_scanner.ts";
import { LineScanner } from "../smtp/line_scanner.ts";
import type { SinkRules, Stage } from "./sink_rules.ts";

/** Who sends a message to whom, as the dialog says it. */
export interface SinkEnvelope {
  /** "" is the null reverse-path. */
  readonly from: string;
  readonly to: readonly string[];
}

/** Takes one message's content; none of it may be kept after the call returns without a copy. */
export interface SinkReceiver {
  write(chunk: Uint8Array): void | Promise<void>;
  /** The message is complete and is about to be answered 250. */
  end(): void | Promise<void>;
  /** The message is answered otherwise, or the connection was lost. */
  abort(): void | Promise<void>;
}

/** What a session counts. */
export interface SinkCounts {
  connections: number;
  open: number;
  messages: number;
  recipients: number;
  /** Bytes of content, of messages answered 250. */
  bytes: number;
  /** Replies of 4xx and 5xx. */
  refused: number;
  /** Connections closed by rule. */
  dropped: number;
}

/** What sessions share. */
export interface SinkContext {
  readonly hostname: string;
  readonly rules: SinkRules;
  readonly counts: SinkCounts;
  readonly random: () => number;
  /** Resolves after `ms`, or rejects when the sink is closed. */
  readonly wait: (ms: number) => Promise<void>;
  readonly receive?: (envelope: SinkEnvelope) => SinkReceiver | undefined;
  /** Offers STARTTLS when present. */
  readonly startTls?: (conn: ByteConn) => Promise<ByteConn>;
}

const LINE_MAX = 4096;
const NOTHING = new Uint8Array(0);

/** Ends the session: by rule, by QUIT, or after 421. */
class Hangup extends Error {}

/** The dialog on one connection. */
export class SinkSession {
  readonly #context: SinkContext;
  #conn: ByteConn;
  #secure: boolean;
  #out = "";
  readonly #lines = new LineScanner(LINE_MAX);
  #from: string | undefined;
  #to: string[] = [];
  #refuseAll = false;
  #scanner: DataScanner | undefined;
  #chunkLeft = 0;
  #chunkLast = false;
  #chunkRefused = false;
  #receiver: SinkReceiver | undefined;
  #size = 0;

  constructor(context: SinkContext, conn: ByteConn, secure: boolean) {
    this.#context = context;
    this.#conn = conn;
    this.#secure = secure;
  }

  /** Talks until either side ends it; closes the connection. */
  async run(): Promise<void> {
    const { counts } = this.#context;
    counts.connections++;
    counts.open++;
    try {
      await this.#greet();
      const buffer = new Uint8Array(64 * 1024);
      for (let n = await this.#conn.read(buffer); n !== null; n = await this.#conn.read(buffer)) {
        await this.#take(buffer.subarray(0, n));
        await this.#flush();
      }
    } catch (error) {
      if (!(error instanceof Hangup)) throw error;
      await this.#flush();
    } finally {
      counts.open--;
      await this.#receiver?.abort();
      this.close();
    }
  }

  /** Ends the session at once; a pending read or write fails. */
  close(): void {
    try {
      this.#conn.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }

  async #greet(): Promise<void> {
    const { hostname, counts } = this.#context;
    const code = await this.#answer("greeting", `220 ${hostname} ESMTP sink\r\n`);
    if (code >= 400) this.#refuseAll = true;
    if (code >= 400) counts.refused++;
    await this.#flush();
  }

  async #take(bytes: Uint8Array): Promise<void> {
    let rest = bytes;
    while (rest.length > 0) {
      if (this.#scanner) rest = rest.subarray(await this.#content(this.#scanner, rest));
      else if (this.#chunkLeft > 0) rest = rest.subarray(await this.#chunk(rest));
      else rest = await this.#commands(rest);
    }
    this.#lines.detach();
  }

  /** Takes command lines; answers what follows the last one where that is content. */
  async #commands(bytes: Uint8Array): Promise<Uint8Array> {
    this.#lines.push(bytes);
    for (let line = this.#lines.next(); line; line = this.#lines.next()) {
      if (line.fault) this.#refuse(`500 5.5.2 Expected a line that ends in CRLF: ${line.fault}`);
      else if (await this.#command(line.text)) this.#lines.takeRest(); // what was sent before TLS is dropped
      if (this.#scanner || this.#chunkLeft > 0) return this.#lines.takeRest();
    }
    return NOTHING;
  }

  /** True when the rest of what was read must not be looked at. */
  async #command(line: string): Promise<boolean> {
    const verb = line.slice(0, 4).toUpperCase();
    if (this.#refuseAll && verb !== "QUIT") {
      this.#refuse("503 5.5.1 No service here");
      return false;
    }
    switch (verb) {
      case "MAIL":
        await this.#mail(line);
        return false;
      case "RCPT":
        await this.#rcpt(line);
        return false;
      case "DATA":
        await this.#data();
        return false;
      case "BDAT":
        await this.#bdat(line);
        return false;
      case "EHLO":
        await this.#ehlo();
        return false;
      case "HELO":
        this.#reset();
        await this.#answer("ehlo", `250 ${this.#context.hostname}\r\n`);
        return false;
      case "RSET":
        this.#reset();
        this.#out += "250 2.0.0 Ok\r\n";
        return false;
      case "NOOP":
        this.#out += "250 2.0.0 Ok\r\n";
        return false;
      case "VRFY":
        this.#out += "252 2.0.0 Send and see\r\n";
        return false;
      case "QUIT":
        this.#out += "221 2.0.0 Bye\r\n";
        throw new Hangup();
      case "STAR":
        return await this.#startTls();
      default:
        this.#refuse("500 5.5.1 Unknown command");
        return false;
    }
  }

  async #ehlo(): Promise<void> {
    this.#reset();
    const { hostname, startTls } = this.#context;
    const keywords = [
      "PIPELINING",
      "8BITMIME",
      "SMTPUTF8",
      "DSN",
      "ENHANCEDSTATUSCODES",
      "CHUNKING",
      "BINARYMIME",
    ];
    if (startTls && !this.#secure) keywords.push("STARTTLS");
    const lines = [hostname, ...keywords, "SIZE"];
    const text = lines.map((each, i) => `250${i < lines.length - 1 ? "-" : " "}${each}\r\n`).join("");
    await this.#answer("ehlo", text);
  }

  async #mail(line: string): Promise<void> {
    if (this.#from !== undefined) return this.#refuse("503 5.5.1 A transaction is open");
    const path = pathOf(line, "MAIL FROM:");
    if (path === undefined) return this.#refuse("501 5.5.4 Expected MAIL FROM:<address>");
    if (await this.#answer("mail", "250 2.1.0 Ok\r\n") < 400) this.#from = path;
  }

  async #rcpt(line: string): Promise<void> {
    if (this.#from === undefined) return this.#refuse("503 5.5.1 MAIL first");
    const path = pathOf(line, "RCPT TO:");
    if (!path) return this.#refuse("501 5.5.4 Expected RCPT TO:<address>");
    if (await this.#answer("rcpt", "250 2.1.5 Ok\r\n") < 400) this.#to.push(path);
  }

  async #data(): Promise<void> {
    if (this.#to.length === 0) return this.#refuse("503 5.5.1 RCPT first");
    if (await this.#answer("data", "354 End with a dot\r\n") >= 400) return this.#reset();
    this.#begin();
    this.#scanner = new DataScanner();
  }

  async #bdat(line: string): Promise<void> {
    const [, size, last] = /^BDAT (\d{1,12})( LAST)?\s*$/i.exec(line) ?? [];
    if (size === undefined) {
      // Nobody can tell what follows.
      this.#refuse("501 5.5.4 Expected BDAT size [LAST]");
      throw new Hangup();
    }
    this.#chunkLeft = Number(size);
    this.#chunkLast = last !== undefined;
    this.#chunkRefused = this.#to.length === 0;
    if (!this.#chunkRefused && this.#size === 0 && !this.#receiver) this.#begin();
    if (this.#chunkLeft === 0) await this.#chunkDone();
  }

  async #startTls(): Promise<boolean> {
    const { startTls } = this.#context;
    if (!startTls || this.#secure) {
      this.#refuse("502 5.5.1 Not available");
      return false;
    }
    this.#reset();
    this.#out += "220 2.0.0 Go ahead\r\n";
    await this.#flush();
    this.#conn = await startTls(this.#conn);
    this.#secure = true;
    return true;
  }

  #begin(): void {
    this.#size = 0;
    this.#receiver = this.#context.receive?.({ from: this.#from!, to: this.#to });
  }

  /** Takes content up to the end of data; answers how many bytes that was. */
  async #content(scanner: DataScanner, bytes: Uint8Array): Promise<number> {
    const { content, done, consumed } = scanner.push(bytes);
    for (const part of content) {
      this.#size += part.length;
      if (this.#receiver) await this.#receiver.write(part);
    }
    if (!done) return consumed;
    this.#scanner = undefined;
    await this.#finish();
    return consumed;
  }

  async #chunk(bytes: Uint8Array): Promise<number> {
    const part = bytes.subarray(0, this.#chunkLeft);
    this.#chunkLeft -= part.length;
    if (!this.#chunkRefused) {
      this.#size += part.length;
      if (this.#receiver) await this.#receiver.write(part);
    }
    if (this.#chunkLeft === 0) await this.#chunkDone();
    return part.length;
  }

  async #chunkDone(): Promise<void> {
    if (this.#chunkRefused) this.#refuse("503 5.5.1 RCPT first");
    else if (this.#chunkLast) await this.#finish();
    else this.#out += "250 2.0.0 Chunk taken\r\n";
  }

  async #finish(): Promise<void> {
    const { counts, rules } = this.#context;
    const recipients = this.#to.length;
    // Only with rules can the end of data be answered otherwise; then the message counts after its answer is known.
    const code = rules.has("dot") ? await this.#answer("dot", "250 2.0.0 Ok\r\n") : 250;
    if (code < 400) {
      if (this.#receiver) await this.#receiver.end();
      this.#receiver = undefined;
      counts.messages++;
      counts.recipients += recipients;
      counts.bytes += this.#size;
      if (!rules.has("dot")) this.#out += "250 2.0.0 Ok\r\n";
    }
    await this.#receiver?.abort();
    this.#receiver = undefined;
    this.#reset();
  }

  #reset(): void {
    this.#from = undefined;
    this.#to = [];
    this.#size = 0;
  }

  #refuse(text: string): void {
    this.#context.counts.refused++;
    this.#out += text + "\r\n";
  }

  /** Answers as the rules of the stage have it, and returns the code. */
  async #answer(stage: Stage, normal: string): Promise<number> {
    const { rules, counts, random, wait } = this.#context;
    const rule = rules.get(stage);
    if (!rule) {
      this.#out += normal;
      return Number(normal.slice(0, 3));
    }
    if (rule.delay > 0) {
      await this.#flush();
      await wait(rule.delay);
    }
    if (rule.drop > 0 && random() < rule.drop) {
      counts.dropped++;
      throw new Hangup();
    }
    let left = random();
    for (const { code, probability } of rule.replies) {
      if ((left -= probability) >= 0) continue;
      this.#out += `${code} ${code < 400 ? "" : `${Math.floor(code / 100)}.0.0 `}As told, at ${stage}\r\n`;
      if (code >= 400) counts.refused++;
      if (code === 421) throw new Hangup();
      return code;
    }
    this.#out += normal;
    return Number(normal.slice(0, 3));
  }

  async #flush(): Promise<void> {
    if (this.#out === "") return;
    const bytes = encoder.encode(this.#out);
    this.#out = "";
    await writeAll(this.#conn, bytes);
  }
}

const encoder = new TextEncoder();
/** The path between angle brackets; undefined where there is none. */
function pathOf(line: string, start: string): string | undefined {
  if (line.slice(0, start.length).toUpperCase() !== start) return undefined;
  const open = line.indexOf("<", start.length);
  // A quoted local part may hold ">": the path ends at the last one before the parameters.
  const close = line.indexOf(">", line.lastIndexOf('"') + 1);
  return open < 0 || close < open ? undefined : line.slice(open + 1, close);
}
