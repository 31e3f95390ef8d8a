/** The dialog on one connection: bytes → line → command → step → reply and effect. */
import type { ByteConn } from "../platform/tls_server.ts";
import { startTlsServer, type TlsByteConn } from "../platform/tls_server.ts";
import { type Command, CommandError, parseCommand } from "../smtp/command.ts";
import { LineScanner, type ScannedLine } from "../smtp/line_scanner.ts";
import { formatReply, type Reply, reply } from "../smtp/reply.ts";
import { authenticate } from "./authenticate.ts";
import { Content } from "./content.ts";
import type { ServerContext } from "./context.ts";
import { type Client, newSession, type Role, type Session } from "./session.ts";
import { type Effect, finish, refuse, type Step, step } from "./step.ts";
import { VERBS } from "./verbs.ts";
import { Wire } from "./wire.ts";

/** Octets of a command line: RFC 5321's 512, and room for all parameters (RFC 3461 §5, 4954 §5, 6531 §3.4). */
const MAX_LINE = 2_048;
const HANDSHAKE_TIMEOUT = 30_000;
/** Failed AUTH commands of one connection. */
const MAX_AUTH_FAILURES = 3;

const TIMED_OUT = reply(421, "4.4.2", "Timeout, closing the connection");
const SHUTTING_DOWN = reply(421, "4.3.2", "Shutting down, try again later");
const EARLY_TALKER = reply(554, "5.5.1", "Wait for the greeting before you speak");
const NOT_SYNCHRONISED = reply(554, "5.5.0", "Wait for the reply to DATA before you send content");
const FOREIGN_PROTOCOL = reply(554, "5.5.1", "This is SMTP, not HTTP");
const TOO_MANY_TRIES = reply(421, "4.7.0", "Too many failed logins, closing the connection");
const FAULTS: Readonly<Record<NonNullable<ScannedLine["fault"]>, Reply>> = {
  "bare LF": reply(500, "5.5.2", "Lines must end with CRLF"),
  "bare CR": reply(500, "5.5.2", "A CR stands on its own; lines must end with CRLF"),
  "too long": reply(500, "5.5.2", `Line is longer than ${MAX_LINE} octets`),
  "not UTF-8": reply(500, "5.5.2", "Line is not UTF-8"),
};

/** One client. */
export class Connection {
  readonly #context: ServerContext;
  readonly #wire: Wire;
  readonly #lines = new LineScanner(MAX_LINE);
  readonly #content: Content;
  readonly #implicitTls: boolean;
  #session: Session;
  #tls: string | undefined;
  #authFailures = 0;
  #ended = false;
  #draining = false;
  #timedOut = false;

  constructor(context: ServerContext, conn: ByteConn, role: Role, client: Client, implicitTls: boolean) {
    this.#context = context;
    this.#wire = new Wire(conn, context.clock, context.timeout);
    this.#session = newSession(role, client, false);
    this.#implicitTls = implicitTls;
    this.#content = new Content(context, this.#wire, this.#lines);
  }

  /** Talks until either side ends it. Never throws. */
  async run(): Promise<void> {
    const { log } = this.#context;
    const client = this.#session.client.address;
    log.debug("client connected", { client });
    let lost: string | undefined;
    try {
      if (await this.#greet()) await this.#talk();
      await this.#wire.flush();
    } catch (error) {
      // Clients that hang up are everyday life.
      lost = this.#timedOut ? "timeout" : error instanceof Error ? error.message : String(error);
    } finally {
      await this.#content.abort();
      this.#wire.close();
    }
    log.debug("client disconnected", { client, reason: this.#timedOut ? "timeout" : lost });
  }

  /** Called once a second with the monotonic time: ends the connection when its client is late. */
  sweep(now: number): void {
    if (now < this.#wire.deadline) return;
    if (this.#timedOut) return this.#wire.close();
    this.#timedOut = true;
    this.#ended = true;
    this.#wire.hangUp(TIMED_OUT);
  }

  /** Ends the connection as soon as no transaction is open. */
  drain(): void {
    this.#draining = true;
    if (!this.#session.transaction && this.#wire.listening) {
      this.#ended = true;
      this.#wire.hangUp(SHUTTING_DOWN);
    }
  }

  /** Ends it now. */
  close(): void {
    this.#ended = true;
    this.#wire.close();
  }

  async #greet(): Promise<boolean> {
    const { hostname } = this.#context;
    if (this.#implicitTls) {
      if (!await this.#handshake()) return false;
    } else if (!this.#session.client.trusted && await this.#wire.speaksFirst()) {
      this.#end(EARLY_TALKER, "connect");
      return false;
    }
    // RFC 2034 §4: the greeting has no enhanced status.
    this.#wire.reply(reply(220, undefined, `${hostname} ESMTP Epoxi`));
    return true;
  }

  async #talk(): Promise<void> {
    while (!this.#ended) {
      const line = this.#lines.next();
      if (line) {
        const work = this.#line(line);
        if (work) await work;
        if (this.#wire.full) await this.#wire.flush();
      } else if (!await this.#fill()) return;
    }
  }

  /** Sends what is due and reads more; false at the end. */
  async #fill(): Promise<boolean> {
    if (this.#draining && !this.#session.transaction) {
      this.#wire.reply(SHUTTING_DOWN);
      return false;
    }
    // A line that comes in drops does not renew the client's time.
    if (this.#lines.pending === 0 || this.#wire.deadline === Infinity) this.#wire.restartTimer();
    await this.#wire.flush();
    this.#lines.detach();
    // A drain that began during the flush has seen nobody listening.
    if (this.#draining && !this.#session.transaction) return this.#fill();
    const bytes = await this.#wire.read();
    if (!bytes) return false;
    this.#lines.push(bytes);
    return true;
  }

  /** A promise only where there is something to wait for. */
  #line(line: ScannedLine): Promise<void> | undefined {
    let command: Command;
    try {
      if (line.fault) {
        return this.#apply(refuse(this.#session, FAULTS[line.fault], this.#context.rules), "line");
      }
      command = parseCommand(line.text, { utf8: this.#session.transaction?.parameters.smtpUtf8 ?? false });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return this.#notCommand(line.text, error.reply);
    }
    const { verb } = command;
    this.#context.metrics.commands.add(1, { verb });
    const outrun = VERBS[verb].endsGroup && this.#lines.pending > 0 && !this.#session.client.trusted;
    if (outrun) {
      // Content sent before our 354 would be read as commands, were DATA refused.
      if (verb === "DATA") return this.#end(NOT_SYNCHRONISED, verb);
      this.#session = { ...this.#session, errors: this.#session.errors + 1 };
    }
    return this.#apply(step(this.#session, command, this.#context.rules), verb);
  }

  #notCommand(text: string, answer: Reply): Promise<void> | undefined {
    // A browser made to post to us: its body must not be read as commands.
    if (/^(?:(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|PRI) |[A-Za-z-]+:)/i.test(text)) {
      return this.#end(FOREIGN_PROTOCOL, "HTTP");
    }
    // Where a chunk's size cannot be read, its content cannot be told from commands.
    if (/^BDAT\b/i.test(text)) return this.#end(answer, "BDAT");
    return this.#apply(refuse(this.#session, answer, this.#context.rules), "line");
  }

  #apply({ session, reply, effect }: Step, verb: string): Promise<void> | undefined {
    const gaveUp = this.#session.transaction !== undefined && session.transaction === undefined;
    this.#session = session;
    if (reply && reply.code >= 400) this.#reject(reply, verb);
    if (effect?.kind === "close") {
      this.#ended = true;
      this.#wire.reply(reply!);
      return undefined;
    }
    if (effect) return this.#perform(effect, reply);
    if (reply) this.#wire.reply(reply);
    return gaveUp && this.#content.open ? this.#content.abort() : undefined;
  }

  async #perform(effect: Effect, answer: Reply | undefined): Promise<void> {
    switch (effect.kind) {
      case "data":
        return this.#answered(await this.#content.data(this.#session, this.#tls));
      case "chunk":
        return this.#answered(await this.#content.chunk(this.#session, this.#tls, effect.size, effect.last));
      case "drain":
        if (!await this.#content.drain(effect.size)) this.#ended = true;
        this.#wire.reply(answer!);
        return;
      case "auth":
        return await this.#auth(effect.mechanism, effect.initialResponse);
      case "startTls":
        this.#wire.reply(answer!);
        await this.#wire.flush();
        // CVE-2011-0411: nothing said in the clear may count afterwards.
        this.#lines.takeRest();
        if (!await this.#handshake()) this.#ended = true;
        return;
    }
  }

  /** After content, or a part of it. */
  #answered({ answer, more, hangUp }: { answer: Reply; more: boolean; hangUp: boolean }): void {
    if (more) return this.#wire.reply(answer);
    const done = finish(this.#session, answer, this.#context.rules);
    this.#session = done.session;
    if (answer.code >= 400) this.#reject(answer, "content");
    this.#wire.reply(answer);
    if (done.effect?.kind === "close") {
      this.#ended = true;
      this.#wire.reply(done.reply!);
    }
    if (hangUp) this.#ended = true;
  }

  async #auth(mechanism: string, initialResponse: string | undefined): Promise<void> {
    const { log, metrics, authenticator, rules } = this.#context;
    const ask = async (challenge: string) => {
      this.#wire.reply(reply(334, undefined, challenge));
      for (;;) {
        const line = this.#lines.next();
        if (line) return line;
        if (!await this.#fill()) return undefined;
      }
    };
    // PBKDF2 is our time, not the client's; `ask` starts its timer again.
    this.#wire.stopTimer();
    const result = await authenticate(authenticator.start(mechanism), initialResponse, ask);
    if (!result) {
      this.#ended = true;
      return;
    }
    const client = this.#session.client.address;
    if ("user" in result) {
      this.#session = { ...this.#session, user: result.user };
      log.info("client logged in", { client, user: result.user, mechanism });
      return this.#wire.reply(reply(235, "2.7.0", "Authentication succeeded"));
    }
    if (result.failed) {
      this.#authFailures++;
      metrics.authFailures.add();
      log.warn("login failed", { client, mechanism, user: result.failed.user });
      if (this.#authFailures >= MAX_AUTH_FAILURES) return this.#end(TOO_MANY_TRIES, "AUTH");
    }
    this.#apply(refuse(this.#session, result.answer, rules), "AUTH");
  }

  /** False when it failed; the connection is of no use then. */
  async #handshake(): Promise<boolean> {
    const { log, secureContext } = this.#context;
    const { role, client } = this.#session;
    const context = secureContext();
    if (!context) return false;
    this.#wire.restartTimer(Math.min(HANDSHAKE_TIMEOUT, this.#context.timeout));
    try {
      await this.#wire.upgrade(async (conn) => {
        const secured: TlsByteConn = await startTlsServer(conn, context);
        this.#tls = `${secured.protocol} ${secured.cipher}`.trim();
        return secured;
      });
    } catch (error) {
      log.info("TLS handshake failed", {
        client: client.address,
        error: error instanceof Error ? error.message : String(error),
      });
      return false;
    }
    this.#session = { ...newSession(role, client, true), errors: this.#session.errors };
    return !this.#wire.closed;
  }

  /** Says a last word and ends. */
  #end(answer: Reply, verb: string): undefined {
    this.#reject(answer, verb);
    this.#wire.reply(answer);
    this.#ended = true;
  }

  #reject(answer: Reply, verb: string): void {
    this.#context.metrics.rejected.add(1, { code: String(answer.code) });
    this.#context.log.info("client rejected", {
      client: this.#session.client.address,
      verb,
      reply: formatReply(answer),
    });
  }
}
