/** The SMTP client: one connection, any number of transactions (RFC 5321, 2920, 1870, 3030, 3207, 3461). */
import { ClientSocket, SocketError, type TlsState } from "../platform/client_socket.ts";
import { encodeCommand } from "../smtp/command.ts";
import { type Extensions, NO_EXTENSIONS, parseEhlo } from "../smtp/extension.ts";
import { formatReply, type Reply, ReplyError, ReplyParser } from "../smtp/reply.ts";
import { encodeBase64, encodePlain } from "../smtp/sasl.ts";

/** Where in the dialog something happened. */
export type Stage =
  | "connect"
  | "tls"
  | "greeting"
  | "ehlo"
  | "auth"
  | "mail"
  | "rcpt"
  | "data"
  | "dot"
  | "quit";

/** Time-outs per stage in milliseconds (RFC 5321 §4.5.3.2). */
export type Timeouts = Readonly<Record<Stage | "block", number>>;

export const DEFAULT_TIMEOUTS: Timeouts = {
  connect: 30_000,
  tls: 60_000,
  greeting: 300_000,
  ehlo: 300_000,
  auth: 300_000,
  mail: 300_000,
  rcpt: 300_000,
  data: 120_000,
  block: 180_000,
  dot: 600_000,
  quit: 5_000,
};

export interface SmtpConnectOptions {
  /** Name of the host, for the certificate and the log. */
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** Our name. */
  readonly hostname: string;
  readonly tls: "never" | "opportunistic" | "require" | "implicit";
  /** Only meant for `require` and `implicit`: the certificate must be valid for `host`. */
  readonly verify?: boolean;
  readonly auth?: { readonly user: string; readonly password: string };
  readonly localAddress?: string;
  readonly timeouts?: Timeouts;
  readonly signal?: AbortSignal;
  /** Hears the dialog, credentials masked. */
  readonly transcript?: (side: "C" | "S", line: string) => void;
}

/** Thrown when a connection can't be made, or is lost. */
export class SmtpClientError extends Error {
  override readonly name = "SmtpClientError";
  constructor(
    readonly stage: Stage,
    message: string,
    /** What the server said, where it did. */
    readonly reply?: Reply,
    readonly fault: SocketError["fault"] | "protocol" | "rejected" = "rejected",
  ) {
    super(message);
  }
}

/**
 * Connects, says EHLO (HELO where that is not known), upgrades to TLS and logs in as asked.
 * @throws {SmtpClientError}
 */
export async function connectSmtp(options: SmtpConnectOptions): Promise<SmtpConnection> {
  const timeouts = options.timeouts ?? DEFAULT_TIMEOUTS;
  let socket: ClientSocket;
  try {
    socket = await ClientSocket.connect({ ...options, timeout: timeouts.connect });
  } catch (error) {
    throw clientError("connect", error);
  }
  const connection = new SmtpConnection(socket, options, timeouts);
  const onAbort = () => socket.destroy();
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await connection.open();
    return connection;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/** An open connection, past EHLO. */
export class SmtpConnection {
  readonly #socket: ClientSocket;
  readonly #options: SmtpConnectOptions;
  #parser = new ReplyParser();
  #replies: Reply[] = [];
  /** What the server offers (after TLS). */
  extensions: Extensions = NO_EXTENSIONS;
  /** It can't be used for another transaction. */
  broken = false;

  constructor(socket: ClientSocket, options: SmtpConnectOptions, readonly timeouts: Timeouts) {
    this.#socket = socket;
    this.#options = options;
  }

  get host(): string {
    return this.#options.host;
  }

  get address(): string {
    return this.#options.address;
  }

  get tls(): TlsState | undefined {
    return this.#socket.tls;
  }

  /**
   * False when the connection has ended or something came unasked, such as a 421, or a second reply to one command:
   * from then on no reply could be told from that of another message.
   */
  get usable(): boolean {
    return !this.broken && !this.#socket.stale && this.#replies.length === 0 && this.#parser.empty;
  }

  /** A reply, or a part of one, has come that was not read yet. */
  get answered(): boolean {
    return this.#replies.length > 0 || this.#socket.readable;
  }

  /** Greeting, EHLO, TLS, AUTH. @throws {SmtpClientError} */
  async open(): Promise<void> {
    const { tls, auth } = this.#options;
    if (tls === "implicit") await this.#startTls();
    const greeting = await this.receive("greeting");
    if (greeting.code !== 220) throw rejected("greeting", greeting);
    await this.#ehlo();
    if (tls === "opportunistic" || tls === "require") await this.#upgrade(tls === "require");
    if (auth) await this.#login(auth);
  }

  /** Sends text (one or more command lines) in one write. @throws {SmtpClientError} */
  async transmit(stage: Stage, text: string, shown = text): Promise<void> {
    this.#show("C", shown);
    try {
      await this.#socket.write(text, this.timeouts.block);
    } catch (error) {
      throw this.#lost(stage, error);
    }
  }

  /** Sends bytes of content. @throws {SmtpClientError} */
  async transmitBytes(stage: Stage, bytes: Uint8Array): Promise<void> {
    try {
      await this.#socket.write(bytes, this.timeouts.block);
    } catch (error) {
      // A server that refuses in the middle and hangs up has told why: the reply is still here to be read.
      if (!this.answered) throw this.#lost(stage, error);
      this.broken = true;
    }
  }

  /** The next reply. @throws {SmtpClientError} when it does not come, or is junk. */
  async receive(stage: Stage): Promise<Reply> {
    const deadline = performance.now() + this.timeouts[stage];
    while (this.#replies.length === 0) {
      try {
        const left = deadline - performance.now();
        if (left <= 0) throw new SocketError("timeout", "timed out waiting for a reply");
        this.#replies.push(...this.#parser.push(await this.#socket.read(left)));
      } catch (error) {
        throw this.#lost(stage, error);
      }
    }
    const reply = this.#replies.shift()!;
    this.#show("S", formatReply(reply));
    // RFC 5321 §3.8: after 421 the server closes, whatever it was asked.
    if (reply.code === 421) this.broken = true;
    return reply;
  }

  /** Ends the connection as RFC 5321 wants it; never throws. */
  async quit(): Promise<void> {
    try {
      if (this.usable) {
        await this.transmit("quit", "QUIT\r\n");
        await this.receive("quit");
      }
    } catch {
      // It is going away as it is.
    } finally {
      this.destroy();
    }
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.broken = true;
    this.#socket.destroy();
  }

  async #ehlo(): Promise<void> {
    const { hostname } = this.#options;
    await this.transmit("ehlo", encodeCommand({ verb: "EHLO", domain: hostname }) + "\r\n");
    const reply = await this.receive("ehlo");
    if (reply.code === 250) {
      this.extensions = parseEhlo(reply);
      return;
    }
    if (reply.code < 500 || this.broken) throw rejected("ehlo", reply);
    await this.transmit("ehlo", encodeCommand({ verb: "HELO", domain: hostname }) + "\r\n");
    const helo = await this.receive("ehlo");
    if (helo.code !== 250) throw rejected("ehlo", helo);
    this.extensions = NO_EXTENSIONS;
  }

  async #upgrade(required: boolean): Promise<void> {
    if (!this.extensions.has("STARTTLS")) {
      if (required) throw new SmtpClientError("tls", "the server does not offer STARTTLS", undefined, "tls");
      return;
    }
    await this.transmit("tls", "STARTTLS\r\n");
    const reply = await this.receive("tls");
    if (reply.code !== 220) {
      // 421 is about the connection, not about TLS: nothing to be remembered as broken TLS.
      if (this.broken) throw rejected("ehlo", reply);
      if (required) throw new SmtpClientError("tls", formatReply(reply), reply, "tls");
      return;
    }
    await this.#startTls();
    await this.#ehlo();
  }

  async #startTls(): Promise<void> {
    const { host, verify = false } = this.#options;
    try {
      // What came in the clear must not be taken for what comes under TLS (CVE-2011-0411).
      if (this.#replies.length > 0 || !this.#parser.empty) {
        throw new ReplyError("the server sent more than its reply to STARTTLS in the clear");
      }
      await this.#socket.startTls({ serverName: host, verify, timeout: this.timeouts.tls });
      this.#parser = new ReplyParser();
    } catch (error) {
      throw this.#lost("tls", error);
    }
  }

  async #login({ user, password }: { user: string; password: string }): Promise<void> {
    const loopback = /^(127\.[\d.]+|::1|localhost)$/i.test(this.#options.address);
    if (!this.tls && !loopback) throw new SmtpClientError("auth", "no password is sent without TLS");
    const mechanisms = this.extensions.authMechanisms;
    if (mechanisms.includes("PLAIN")) {
      const response = encodeBase64(encodePlain({ authcid: user, password }));
      await this.transmit("auth", `AUTH PLAIN ${response}\r\n`, "AUTH PLAIN ********\r\n");
    } else if (mechanisms.includes("LOGIN")) {
      await this.#loginSteps(user, password);
    } else {
      throw new SmtpClientError(
        "auth",
        `the server offers no way to log in that we know (${mechanisms.join(" ")})`,
      );
    }
    const reply = await this.receive("auth");
    if (reply.code !== 235) throw rejected("auth", reply);
  }

  async #loginSteps(user: string, password: string): Promise<void> {
    await this.transmit("auth", "AUTH LOGIN\r\n");
    for (const text of [user, password]) {
      const reply = await this.receive("auth");
      if (reply.code !== 334) throw rejected("auth", reply);
      await this.transmit("auth", `${encodeBase64(text)}\r\n`, "********\r\n");
    }
  }

  #lost(stage: Stage, error: unknown): SmtpClientError {
    this.broken = true;
    this.#socket.destroy();
    return clientError(stage, error);
  }

  #show(side: "C" | "S", text: string): void {
    const { transcript } = this.#options;
    if (!transcript) return;
    for (const line of text.split("\r\n")) if (line) transcript(side, line);
  }
}

function clientError(stage: Stage, error: unknown): SmtpClientError {
  if (error instanceof SocketError) return new SmtpClientError(stage, error.message, undefined, error.fault);
  if (error instanceof ReplyError) return new SmtpClientError(stage, error.message, undefined, "protocol");
  return new SmtpClientError(
    stage,
    error instanceof Error ? error.message : String(error),
    undefined,
    "network",
  );
}

function rejected(stage: Stage, reply: Reply): SmtpClientError {
  return new SmtpClientError(stage, formatReply(reply), reply);
}
