/** `POST /v1/messages`: one message for all its recipients. */
import { Hono } from "hono";
import { distinctAddresses, DraftError, parseAddress } from "../message/draft.ts";
import { type RenderContext, type Rendered, renderMessage } from "../message/render.ts";
import type { Access, HttpEnv } from "./access.ts";
import { checkShape, readJson } from "./body.ts";
import { type HttpOptions, requestLimit } from "./options.ts";
import { notAvailable } from "./problem.ts";
import { rawMessage } from "./raw.ts";
import { draftOf, type MessageRequest, messageRequest, recipientsOf } from "./requests.ts";
import { submit } from "./submit.ts";

const RECIPIENTS_MAX = 10_000;

/** Routes that send mail the plain way. */
export function sendRoutes(options: HttpOptions, access: Access): Hono<HttpEnv> {
  const app = new Hono<HttpEnv>();
  app.post("/v1/messages", access.need("send"), async (c) => {
    const reasons = options.acceptor.reasons();
    if (reasons.length > 0) throw notAvailable(reasons);
    const request = checkShape(
      messageRequest,
      await readJson(c, requestLimit(options.config.maxMessageSize)),
      422,
    );
    const { to, cc, bcc } = recipientsOf(request);
    const recipients = distinctAddresses([...to, ...cc, ...bcc]);
    checkCount(recipients.length, options.maxRecipients);
    const message = await compose(request, {
      hostname: options.config.hostname,
      date: options.clock.now(),
      uniqueId: options.newId(),
    });
    const client = c.env?.client;
    const id = await submit(options, {
      from: parseAddress(request.from, "from").address,
      recipients,
      message,
      user: c.get("caller"),
      ...(client === undefined ? {} : { client }),
    });
    return c.json({
      id,
      messageId: message.messageId,
      recipients: recipients.map((address) => ({ id, address, status: "queued" as const })),
    }, 202);
  });
  return app;
}

/** @throws {DraftError} when a request has more recipients than it may. */
export function checkCount(count: number, max: number = RECIPIENTS_MAX): void {
  if (count > max) throw new DraftError("to", `has ${count} recipients, at most ${max}`);
}

async function compose(request: MessageRequest, context: RenderContext): Promise<Rendered> {
  if (request.raw === undefined) return await renderMessage(draftOf(request), context);
  for (const field of ["replyTo", "subject", "text", "html", "headers", "attachments"] as const) {
    if (request[field] !== undefined) {
      throw new DraftError(field, "can't stand beside raw, which is the whole message");
    }
  }
  return rawMessage(request.raw, context);
}
