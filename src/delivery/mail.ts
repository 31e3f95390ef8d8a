/** What is sent in a transaction and what comes of it; what a host must offer for it. */
import type { Claim } from "../queue/model.ts";
import type { RcptParameters } from "../smtp/command.ts";
import type { Reply } from "../smtp/reply.ts";
import type { SmtpClientError, SmtpConnection, Stage } from "./client.ts";

/** What is sent. */
export interface OutgoingMail {
  /** "" is the null reverse-path. */
  readonly reversePath: string;
  readonly recipients: readonly { readonly address: string; readonly parameters?: RcptParameters }[];
  readonly size: number;
  readonly body: "7BIT" | "8BITMIME" | "BINARYMIME";
  readonly smtpUtf8: boolean;
  readonly requireTls: boolean;
  readonly ret?: "FULL" | "HDRS";
  readonly envid?: string;
  /** The whole content where it is at hand, else it is streamed. */
  readonly bytes: Uint8Array | undefined;
  content(): AsyncIterable<Uint8Array>;
}

/** What came of one recipient. */
export interface RecipientResult {
  readonly accepted: boolean;
  readonly stage: Stage;
  /** The server's reply that decided; absent when it gave none. */
  readonly reply?: Reply;
  /** Our own words where there is no reply. */
  readonly problem?: string;
  readonly fault?: SmtpClientError["fault"];
  /** `x.y.z` for a problem found by us. */
  readonly status?: string;
  /** A problem that will not go away: what the server lacks, the message needs. */
  readonly permanent?: boolean;
  /** The connection was lost after the final dot: it may have been delivered. */
  readonly inDoubt?: boolean;
  readonly dsnPassedOn?: boolean;
}

/** What the message needs and the server lacks; nothing is sent then. */
export function unfitness(
  { extensions, tls }: SmtpConnection,
  mail: OutgoingMail,
): RecipientResult | undefined {
  const fail = (status: string, problem: string): RecipientResult => ({
    accepted: false,
    stage: "mail",
    status,
    problem,
    permanent: true,
  });
  if (mail.smtpUtf8 && !extensions.has("SMTPUTF8")) {
    return fail("5.6.7", "the next host does not offer SMTPUTF8, which this message needs");
  }
  if (mail.body === "8BITMIME" && !extensions.has("8BITMIME")) {
    return fail("5.6.3", "the next host does not offer 8BITMIME, which this message needs");
  }
  if (mail.body === "BINARYMIME" && !(extensions.has("BINARYMIME") && extensions.has("CHUNKING"))) {
    return fail("5.6.3", "the next host does not offer BINARYMIME, which this message needs");
  }
  if (mail.requireTls && !(tls?.verified && extensions.has("REQUIRETLS"))) {
    return fail(
      "5.7.30",
      "the next host does not offer REQUIRETLS over verified TLS, which the sender asked for",
    );
  }
  if (extensions.maxSize !== undefined && mail.size > extensions.maxSize) {
    return fail(
      "5.3.4",
      `message of ${mail.size} bytes is larger than the next host takes (${extensions.maxSize})`,
    );
  }
  return undefined;
}

/**
 * A recipient that did not fit into the transaction. 552 stands for 452 here: servers older than RFC 5321 send it
 * (§4.5.3.1.10). Without a status or words that say so, 452 is about the disk or the mailbox.
 */
export function isTooMany({ accepted, stage, reply }: RecipientResult): boolean {
  if (accepted || stage !== "rcpt" || (reply?.code !== 452 && reply?.code !== 552)) return false;
  return reply.status === undefined
    ? /too many/i.test(reply.lines.join(" "))
    : /^[45]\.5\.3$/.test(reply.status);
}

/** A claim as the SMTP client sends it. */
export function outgoing(claim: Claim): OutgoingMail {
  const { message, envelope } = claim;
  return {
    reversePath: message.reversePath,
    recipients: envelope.recipients.map(({ address, notify, orcpt }) => ({
      address,
      ...(notify || orcpt !== undefined
        ? { parameters: { ...(notify ? { notify } : {}), ...(orcpt === undefined ? {} : { orcpt }) } }
        : {}),
    })),
    size: claim.size,
    body: claim.body,
    smtpUtf8: message.smtpUtf8,
    requireTls: message.requireTls,
    ...(message.ret ? { ret: message.ret } : {}),
    ...(message.envid === undefined ? {} : { envid: message.envid }),
    bytes: claim.bytes,
    content: () => claim.content(),
  };
}
