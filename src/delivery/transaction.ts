/** One transaction over an open connection: MAIL, RCPT, DATA (or BDAT), with an answer for each recipient. */
import { encodeCommand } from "../smtp/command.ts";
import { DotStuffer } from "../smtp/dot_stuffer.ts";
import type { Extensions } from "../smtp/extension.ts";
import type { MailParameters } from "../smtp/command.ts";
import { formatReply, type Reply } from "../smtp/reply.ts";
import { SmtpClientError, type SmtpConnection, type Stage } from "./client.ts";
import { isTooMany, type OutgoingMail, type RecipientResult, unfitness } from "./mail.ts";

/** Content up to this size goes out in one write with its end. */
const ONE_WRITE = 64 * 1024;

/**
 * Sends one message. Never throws for what the network or the server does: each recipient's result tells. A
 * connection that is lost, or out of step, is marked broken; otherwise it is ready for the next transaction.
 */
export async function sendMail(connection: SmtpConnection, mail: OutgoingMail): Promise<RecipientResult[]> {
  const unfit = unfitness(connection, mail);
  if (unfit) return mail.recipients.map(() => unfit);
  const results: RecipientResult[] = [];
  let limit = connection.extensions.limits.rcptMax ?? mail.recipients.length;
  let open = [...mail.recipients.keys()];
  while (open.length > 0) {
    const part = open.slice(0, limit);
    const partResults = await sendPart(connection, mail, part);
    part.forEach((index, i) => results[index] = partResults[i]!);
    open = open.slice(limit);
    if (connection.broken) {
      for (const index of open) results[index] = NOT_TRIED;
      break;
    }
    // RFC 5321 §4.5.3.1.10: who did not fit into this transaction is sent in the next one.
    const left = part.filter((index) => isTooMany(results[index]!));
    if (left.length > 0 && left.length < part.length) {
      limit = part.length - left.length;
      open = [...left, ...open];
    }
  }
  return results;
}

const NOT_TRIED: RecipientResult = {
  accepted: false,
  stage: "mail",
  problem: "connection lost",
  fault: "closed",
};

/** One transaction, for the recipients at these places. */
async function sendPart(
  connection: SmtpConnection,
  mail: OutgoingMail,
  part: readonly number[],
): Promise<RecipientResult[]> {
  const whole = part.length === mail.recipients.length;
  const transaction = new Transaction(
    connection,
    whole ? mail : { ...mail, recipients: part.map((index) => mail.recipients[index]!) },
  );
  try {
    return await transaction.run();
  } catch (error) {
    if (!(error instanceof SmtpClientError)) connection.destroy();
    return transaction.interrupted(error);
  }
}

class Transaction {
  readonly #connection: SmtpConnection;
  readonly #mail: OutgoingMail;
  readonly #results: (RecipientResult | undefined)[];
  #stage: Stage = "mail";
  /** The final dot (or last chunk) is out, its reply is not in. */
  #inDoubt = false;

  constructor(connection: SmtpConnection, mail: OutgoingMail) {
    this.#connection = connection;
    this.#mail = mail;
    this.#results = mail.recipients.map(() => undefined);
  }

  async run(): Promise<RecipientResult[]> {
    const { extensions } = this.#connection;
    const chunked = this.#mail.body === "BINARYMIME";
    const go = extensions.has("PIPELINING") && !chunked
      ? await this.#pipelined()
      : await this.#stepwise(!chunked);
    if (go) {
      if (chunked) await this.#sendChunks();
      else await this.#sendData();
    } else if (!this.#connection.broken) await this.#reset();
    return this.#results as RecipientResult[];
  }

  /** Results where `error` ended the transaction: what is decided stays. */
  interrupted(error: unknown): RecipientResult[] {
    const known = error instanceof SmtpClientError;
    const lost: RecipientResult = {
      accepted: false,
      stage: known ? error.stage : this.#stage,
      problem: known
        ? error.message
        : `reading the message failed: ${error instanceof Error ? error.message : error}`,
      fault: known ? error.fault : "local",
      ...(this.#inDoubt ? { inDoubt: true } : {}),
    };
    return this.#results.map((result) => result ?? lost);
  }

  /** MAIL, every RCPT and DATA in one write (RFC 2920). True when the content may follow. */
  async #pipelined(): Promise<boolean> {
    const connection = this.#connection;
    let text = this.#mailCommand();
    for (const recipient of this.#mail.recipients) text += this.#rcptCommand(recipient);
    await connection.transmit("mail", text + "DATA\r\n");
    const mail = await this.#verdict("mail");
    if (mail.code >= 400) this.#decideAll("mail", mail);
    for (let i = 0; i < this.#results.length && !connection.broken; i++) {
      const reply = await this.#verdict("rcpt");
      this.#decideRecipient(i, reply);
      if (connection.broken) this.#decideAll("rcpt", reply);
    }
    if (connection.broken) return false;
    this.#stage = "data";
    const data = await connection.receive("data");
    if (data.code === 354) {
      if (this.#open) return true;
      // RFC 2920 §3.1: the server wants content though it took no recipient: end it at once.
      await connection.transmit("dot", ".\r\n");
      await connection.receive("dot");
      return false;
    }
    this.#refuseData(data);
    return false;
  }

  async #stepwise(data: boolean): Promise<boolean> {
    const connection = this.#connection;
    await connection.transmit("mail", this.#mailCommand());
    const mail = await this.#verdict("mail");
    if (mail.code >= 400) {
      this.#decideAll("mail", mail);
      return false;
    }
    for (const [i, recipient] of this.#mail.recipients.entries()) {
      await connection.transmit("rcpt", this.#rcptCommand(recipient));
      const reply = await this.#verdict("rcpt");
      this.#decideRecipient(i, reply);
      if (connection.broken) {
        this.#decideAll("rcpt", reply);
        return false;
      }
    }
    if (!this.#open) return false;
    if (!data) return true;
    this.#stage = "data";
    await connection.transmit("data", "DATA\r\n");
    const reply = await connection.receive("data");
    if (reply.code === 354) return true;
    this.#refuseData(reply);
    return false;
  }

  #refuseData(reply: Reply): void {
    this.#decideAll("data", reply);
    // Neither "go on" nor a refusal: nobody can know what it waits for now.
    if (reply.code < 400) this.#connection.destroy();
  }

  async #sendData(): Promise<void> {
    const connection = this.#connection;
    const stuffer = new DotStuffer();
    const { bytes } = this.#mail;
    this.#stage = "dot";
    if (bytes && bytes.length <= ONE_WRITE) {
      const stuffed = stuffer.push(bytes);
      const end = stuffer.end();
      const whole = new Uint8Array(stuffed.length + end.length);
      whole.set(stuffed);
      whole.set(end, stuffed.length);
      if (await this.#refusedEarly()) return;
      this.#inDoubt = true;
      await connection.transmitBytes("dot", whole);
    } else {
      await this.#stream(async (chunk) => {
        await connection.transmitBytes("data", stuffer.push(chunk));
        return !connection.answered;
      });
      if (await this.#refusedEarly()) return;
      this.#inDoubt = true;
      await connection.transmitBytes("dot", stuffer.end());
    }
    this.#finish(await connection.receive("dot"));
  }

  /**
   * A reply that comes before the content has ended: a refusal counts, but the connection is out of step, for nobody
   * knows whether another reply follows.
   */
  async #refusedEarly(): Promise<boolean> {
    const connection = this.#connection;
    if (!connection.answered) return false;
    const reply = await connection.receive("data");
    connection.destroy();
    if (reply.code < 400) {
      throw new SmtpClientError(
        "data",
        `answered before the end of data: ${formatReply(reply)}`,
        undefined,
        "protocol",
      );
    }
    this.#decideAll("data", reply);
    return true;
  }

  /** BDAT chunks (RFC 3030), each answered before the next. */
  async #sendChunks(): Promise<void> {
    const connection = this.#connection;
    this.#stage = "data";
    let held: Uint8Array | undefined;
    const send = async (chunk: Uint8Array, last: boolean) => {
      await connection.transmit("data", `BDAT ${chunk.length}${last ? " LAST" : ""}\r\n`);
      if (last) this.#inDoubt = true;
      await connection.transmitBytes("data", chunk);
      return await connection.receive(last ? "dot" : "data");
    };
    let refused: Reply | undefined;
    await this.#stream(async (chunk) => {
      if (held) {
        const reply = await send(held, false);
        if (reply.code !== 250) refused = reply;
      }
      held = chunk.slice();
      return !refused;
    });
    if (refused) {
      this.#decideAll("data", refused);
      if (!connection.broken) await this.#reset();
      return;
    }
    this.#finish(await send(held ?? new Uint8Array(0), true));
  }

  /** Writes the content chunk by chunk, until `write` says that it makes no sense to go on. */
  async #stream(write: (chunk: Uint8Array) => Promise<boolean>): Promise<void> {
    try {
      const { bytes } = this.#mail;
      if (bytes) await write(bytes);
      else {
        for await (const chunk of this.#mail.content()) {
          if (!await write(chunk)) break;
        }
      }
    } catch (error) {
      // Content that breaks off must never be ended as if it were whole.
      this.#connection.destroy();
      throw error;
    }
  }

  #finish(reply: Reply): void {
    this.#inDoubt = false;
    const accepted = reply.code >= 200 && reply.code < 300;
    // A refusal that crossed with the end of a long content may be followed by another reply, to that end.
    const crossed = !accepted && this.#mail.size > ONE_WRITE;
    if (crossed || (reply.code >= 300 && reply.code < 400)) this.#connection.destroy();
    const dsnPassedOn = this.#connection.extensions.has("DSN");
    for (const [i, result] of this.#results.entries()) {
      this.#results[i] = result ??
        { accepted, stage: "dot", reply, ...(accepted && dsnPassedOn ? { dsnPassedOn } : {}) };
    }
  }

  async #reset(): Promise<void> {
    await this.#connection.transmit("mail", "RSET\r\n");
    const reply = await this.#connection.receive("mail");
    if (reply.code !== 250) this.#connection.broken = true;
  }

  get #open(): boolean {
    return this.#results.includes(undefined);
  }

  /** A reply that says yes or no; one that asks for more belongs to another command. */
  async #verdict(stage: "mail" | "rcpt"): Promise<Reply> {
    const reply = await this.#connection.receive(stage);
    if (reply.code < 300 || reply.code >= 400) return reply;
    this.#connection.destroy();
    throw new SmtpClientError(stage, `reply out of step: ${formatReply(reply)}`, undefined, "protocol");
  }

  #decideRecipient(i: number, reply: Reply): void {
    if (reply.code >= 400) this.#results[i] ??= { accepted: false, stage: "rcpt", reply };
  }

  #decideAll(stage: Stage, reply: Reply): void {
    for (const [i, result] of this.#results.entries()) {
      this.#results[i] = result ?? { accepted: false, stage, reply };
    }
  }

  #mailCommand(): string {
    const { extensions } = this.#connection;
    const { reversePath, size, body, smtpUtf8, requireTls, ret, envid } = this.#mail;
    const dsn = extensions.has("DSN");
    const parameters: MailParameters = {
      ...(extensions.has("SIZE") ? { size } : {}),
      ...(body === "BINARYMIME" || (body !== "7BIT" && extensions.has("8BITMIME")) ? { body } : {}),
      ...(smtpUtf8 ? { smtpUtf8: true } : {}),
      ...(requireTls ? { requireTls: true } : {}),
      ...(dsn && ret ? { ret } : {}),
      ...(dsn && envid !== undefined ? { envid } : {}),
    };
    return encodeCommand({ verb: "MAIL", reversePath, parameters }) + "\r\n";
  }

  #rcptCommand({ address, parameters }: OutgoingMail["recipients"][number]): string {
    const known: Extensions = this.#connection.extensions;
    const given = parameters && known.has("DSN") ? parameters : {};
    return encodeCommand({ verb: "RCPT", forwardPath: address, parameters: given }) + "\r\n";
  }
}

/** One line for people: the reply that decided, or our own words. */
export function describeResult(result: RecipientResult): string {
  return result.reply ? formatReply(result.reply) : result.problem ?? "no reply";
}
