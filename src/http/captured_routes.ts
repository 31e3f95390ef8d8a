/** Captured mail (dev mode), read with mailparser: `/v1/captured`. */
import { Buffer } from "node:buffer";
import { Hono } from "hono";
import { type AddressObject, type ParsedMail, simpleParser } from "mailparser";
import { decodeHeaderText, headerEnd, parseHeader } from "../message/header.ts";
import type { Access, HttpEnv } from "./access.ts";
import { collect, fileHeaders, streamContent } from "./content.ts";
import type { HttpOptions } from "./options.ts";
import { commandAnswer, noMessage, pageOf } from "./queue_routes.ts";

/** Routes on captured messages. */
export function capturedRoutes(options: HttpOptions, access: Access): Hono<HttpEnv> {
  const { queue } = options;
  const app = new Hono<HttpEnv>();
  const [read, admin] = [access.need("read"), access.need("admin")];
  const contentOf = async (id: string) => {
    const content = await queue.content(id);
    if (!content) throw noMessage(id);
    return content;
  };

  app.get("/v1/captured", read, async (c) => c.json(await queue.captured(pageOf(c))));
  app.get("/v1/captured/:id", read, async (c) => {
    const id = c.req.param("id");
    return c.json({ id, ...await parsed(await collect(await contentOf(id))) });
  });
  app.get("/v1/captured/:id/raw", read, async (c) => {
    return streamContent(await contentOf(c.req.param("id")), c.req.param("id"), c.env?.closing);
  });
  app.get("/v1/captured/:id/attachments/:n", read, async (c) => {
    const mail = await parse(await collect(await contentOf(c.req.param("id"))));
    const n = c.req.param("n");
    const attachment = /^\d{1,4}$/.test(n) ? mail.attachments[Number(n)] : undefined;
    if (!attachment) throw noMessage(`${c.req.param("id")} with an attachment ${n}`);
    const type = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(attachment.contentType)
      ? attachment.contentType
      : "application/octet-stream";
    return new Response(new Uint8Array(attachment.content), {
      headers: fileHeaders(type, attachment.filename ?? `attachment-${n}`),
    });
  });
  app.delete("/v1/captured/:id", admin, async (c) => {
    return commandAnswer(c.req.param("id"), await queue.forget(c.req.param("id"), c.get("caller")));
  });
  app.delete("/v1/captured", admin, async (c) => {
    const result = await queue.forget(undefined, c.get("caller"));
    // Nothing there is as good as all removed.
    return c.json({ result: result === "not found" ? "applied" : result }, result === "accepted" ? 202 : 200);
  });
  return app;
}

function parse(content: Uint8Array): Promise<ParsedMail> {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  return simpleParser(bytes, { skipTextToHtml: true, skipTextLinks: true });
}

/** A message as its reader sees it. Nothing in it is safe to be put into a page as it is. */
async function parsed(content: Uint8Array) {
  const mail = await parse(content);
  const header = new TextDecoder("latin1").decode(content.subarray(0, headerEnd(content)));
  return {
    messageId: mail.messageId?.replace(/^<|>$/g, "") ?? null,
    from: addresses(mail.from),
    to: addresses(mail.to),
    cc: addresses(mail.cc),
    replyTo: addresses(mail.replyTo),
    subject: mail.subject ?? "",
    date: mail.date && !Number.isNaN(mail.date.getTime()) ? mail.date.toISOString() : null,
    text: mail.text ?? null,
    html: mail.html || null,
    attachments: mail.attachments.map(({ filename, contentType, size, contentId }) => ({
      filename: filename ?? null,
      contentType,
      size,
      cid: contentId?.replace(/^<|>$/g, "") ?? null,
    })),
    headers: parseHeader(header).map(({ name, value }) => ({ name, value: decodeHeaderText(value) })),
    size: content.length,
  };
}

function addresses(input: AddressObject | AddressObject[] | undefined) {
  return [input ?? []].flat().flatMap(({ value }) => value).flatMap(({ name, address, group }) =>
    (group ?? [{ name, address }]).map((each) => ({ name: each.name ?? "", email: each.address ?? "" }))
  );
}
