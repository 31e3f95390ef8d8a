/** The shapes of requests, and how they become drafts. Unknown fields are refused: none of them can set a thing inside. */
import { z } from "zod";
import {
  type Address,
  type AddressInput,
  type Attachment,
  checkAttachment,
  checkHeaders,
  type Draft,
  DraftError,
  oneLine,
  parseAddress,
  parseAddresses,
} from "../message/draft.ts";

const address = z.union([
  z.string().max(2000),
  z.strictObject({ email: z.string().max(2000), name: z.string().max(2000).optional() }),
], { error: "expected an address, Name <address>, or {email, name}" });
const addresses = z.union([address, z.array(address)], {
  error: "expected an address, Name <address>, {email, name}, or a list of these",
});
const headers = z.record(z.string(), z.union([z.string(), z.array(z.string())]), {
  error: "expected an object of header names and texts",
});
const attachment = z.strictObject({
  /** base64 */
  content: z.string(),
  filename: z.string().max(1000).optional(),
  contentType: z.string().max(1000).optional(),
  cid: z.string().max(200).optional(),
});

/** `POST /v1/messages` */
export const messageRequest = z.strictObject({
  from: address,
  to: addresses.optional(),
  cc: addresses.optional(),
  bcc: addresses.optional(),
  replyTo: addresses.optional(),
  subject: z.string().optional(),
  text: z.string().optional(),
  html: z.string().optional(),
  headers: headers.optional(),
  attachments: z.array(attachment).max(100).optional(),
  /** A whole message (RFC 5322), as text or base64, in place of the fields above from `replyTo` on. */
  raw: z.string().optional(),
});
export type MessageRequest = z.infer<typeof messageRequest>;

/** Epoxi's own message, inside `POST /messages`. */
export const epoxiMessage = z.strictObject({
  from: address,
  to: addresses,
  cc: addresses.optional(),
  bcc: addresses.optional(),
  reply_to: addresses.optional(),
  subject: z.string().optional(),
  text: z.string().optional(),
  html: z.string().optional(),
  headers: headers.optional(),
  attachments: z.array(attachment).max(100).optional(),
  /** Variables for each address. Where it is missing, `{{` has no meaning. */
  data: z.record(z.string(), z.record(z.string(), z.unknown())).optional(),
});
export type EpoxiMessage = z.infer<typeof epoxiMessage>;

/** `POST /messages` */
export const epoxiRequest = z.strictObject({
  message: z.union([z.string(), z.record(z.string(), z.unknown())], {
    error: "expected an object, or a text that holds one as JSON",
  }),
  ip_pool: z.string().max(100).optional(),
});

/** The draft of a message request without `raw`. @throws {DraftError} */
export function draftOf(request: MessageRequest): Draft {
  if (request.text === undefined && request.html === undefined && (request.attachments ?? []).length === 0) {
    throw new DraftError("text", "expected text, html, attachments or raw: the message has nothing in it");
  }
  return {
    from: parseAddress(request.from, "from"),
    ...recipientsOf(request),
    replyTo: listOf(request.replyTo, "replyTo"),
    ...contentOf(request),
    headers: headersOf(request.headers),
    attachments: attachmentsOf(request.attachments),
  };
}

/** To, Cc and Bcc of a request. @throws {DraftError} when they name nobody. */
export function recipientsOf(
  request: Pick<MessageRequest, "to" | "cc" | "bcc">,
): { to: Address[]; cc: Address[]; bcc: Address[] } {
  const recipients = {
    to: listOf(request.to, "to"),
    cc: listOf(request.cc, "cc"),
    bcc: listOf(request.bcc, "bcc"),
  };
  if (recipients.to.length + recipients.cc.length + recipients.bcc.length === 0) {
    throw new DraftError("to", "expected at least one recipient in to, cc or bcc");
  }
  return recipients;
}

/** Addresses of an optional field. @throws {DraftError} */
export function listOf(input: AddressInput | readonly AddressInput[] | undefined, path: string): Address[] {
  return input === undefined ? [] : parseAddresses(input, path);
}

/** @throws {DraftError} */
export function headersOf(input: Readonly<Record<string, string | readonly string[]>> | undefined) {
  const fields = Object.entries(input ?? {}).flatMap(([name, values]) =>
    (Array.isArray(values) ? values : [values]).map((value: string) => ({ name, value }))
  );
  return checkHeaders(fields, "headers");
}

/** @throws {DraftError} */
export function attachmentsOf(input: MessageRequest["attachments"]): Attachment[] {
  return (input ?? []).map(({ content, filename, contentType, cid }, i) => {
    const bytes = decodeBase64(content);
    if (!bytes) throw new DraftError(`attachments.${i}.content`, "is not base64");
    return checkAttachment({
      content: bytes,
      ...(filename === undefined ? {} : { filename }),
      ...(contentType === undefined ? {} : { contentType }),
      ...(cid === undefined ? {} : { cid }),
    }, `attachments.${i}`);
  });
}

function contentOf({ subject, text, html }: Pick<MessageRequest, "subject" | "text" | "html">) {
  return {
    ...(subject === undefined ? {} : { subject: oneLine(subject, "subject") }),
    ...(text === undefined ? {} : { text }),
    ...(html === undefined ? {} : { html }),
  };
}

/** Bytes of base64 or base64url text, with or without line breaks; undefined for anything else. */
export function decodeBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return undefined;
  }
}
