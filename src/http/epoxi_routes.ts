/** `POST /messages`: Epoxi's own request, one email for each recipient, filled with that recipient's data. */
import { Hono } from "hono";
import { type Address, type Draft, DraftError, oneLine, parseAddress } from "../message/draft.ts";
import { renderMessage } from "../message/render.ts";
import {
  compileTemplate,
  fillTemplate,
  type Template,
  type TemplateData,
  TemplateError,
} from "../message/template.ts";
import { Unavailable } from "../queue/model.ts";
import { formatNextHop } from "../queue/next_hop.ts";
import type { Access, HttpEnv } from "./access.ts";
import { checkShape, parseJson, readJson } from "./body.ts";
import { type HttpOptions, requestLimit } from "./options.ts";
import { type Fault, notAvailable, Problem } from "./problem.ts";
import {
  attachmentsOf,
  type EpoxiMessage,
  epoxiMessage,
  epoxiRequest,
  headersOf,
  listOf,
} from "./requests.ts";
import { checkCount } from "./send_routes.ts";
import { submit } from "./submit.ts";

/** Emails that are rendered and committed side by side: enough to share commits. */
const CONCURRENCY = 64;

/** One recipient's email. */
interface Email {
  readonly address: string;
  readonly to: readonly Address[];
}

/** What is the same for every email of a request. */
interface Mailing {
  readonly from: Address;
  readonly cc: readonly Address[];
  readonly fill: (data: TemplateData) => Pick<Draft, "subject" | "text" | "html" | "headers">;
  readonly rest: Pick<Draft, "replyTo" | "attachments">;
  readonly data: (address: string) => TemplateData;
  readonly emails: readonly Email[];
}

type Result = { readonly id: string } | { readonly fault: Fault; readonly unavailable: boolean };

/** Routes that send mail the way Epoxi does. */
export function epoxiRoutes(options: HttpOptions, access: Access): Hono<HttpEnv> {
  const app = new Hono<HttpEnv>();
  app.post("/messages", access.need("send"), async (c) => {
    const reasons = options.acceptor.reasons();
    if (reasons.length > 0) throw notAvailable(reasons);
    const request = checkShape(
      epoxiRequest,
      await readJson(c, requestLimit(options.config.maxMessageSize)),
      400,
    );
    const pool = request.ip_pool ?? "default";
    const pools = options.pools ?? ["default"];
    if (!pools.includes(pool)) {
      const errors = [{
        path: "ip_pool",
        message: `there is no pool "${pool}"; there is ${pools.join(", ")}`,
      }];
      throw new Problem(422, `ip_pool: ${errors[0]!.message}`, { errors });
    }
    const message = typeof request.message === "string"
      ? parseJson(request.message, "The text in message")
      : request.message;
    const mailing = prepare(checkShape(epoxiMessage, message, 400));
    checkCount(mailing.emails.length, options.maxRecipients);
    const from = { user: c.get("caller"), ...(c.env?.client === undefined ? {} : { client: c.env.client }) };
    const results = await inParallel(mailing.emails, (email) => sendOne(options, mailing, email, from));
    return answer(options, mailing, results);
  });
  return app;
}

/** Checks what all emails share, so that a fault in it is told once. @throws {DraftError} */
function prepare(message: EpoxiMessage): Mailing {
  if (message.text === undefined && message.html === undefined && (message.attachments ?? []).length === 0) {
    throw new DraftError("text", "expected text, html or attachments: the message has nothing in it");
  }
  const [to, cc, bcc] = [listOf(message.to, "to"), listOf(message.cc, "cc"), listOf(message.bcc, "bcc")];
  const emails = new Map<string, Email>();
  for (const each of to) {
    if (!emails.has(each.address)) emails.set(each.address, { address: each.address, to: [each] });
  }
  // Recipients of a mailing don't see each other; who gets a copy sees whom it was for where that is one address.
  const shown = emails.size === 1 ? to.slice(0, 1) : [];
  for (const { address } of [...cc, ...bcc]) {
    if (!emails.has(address)) emails.set(address, { address, to: shown });
  }
  if (emails.size === 0) throw new DraftError("to", "expected at least one recipient");
  return {
    from: parseAddress(message.from, "from"),
    cc,
    fill: filler(message),
    rest: { replyTo: listOf(message.reply_to, "reply_to"), attachments: attachmentsOf(message.attachments) },
    data: dataFinder(message.data),
    emails: [...emails.values()],
  };
}

/** Fills subject, text, html and header values; without `data` they are taken as they are. */
function filler(message: EpoxiMessage): Mailing["fill"] {
  const headers = headersOf(message.headers);
  const template = (source: string | undefined, path: string): Template | undefined => {
    if (source === undefined) return undefined;
    if (message.data === undefined) return { texts: [source], variables: [] };
    try {
      return compileTemplate(source);
    } catch (error) {
      if (error instanceof TemplateError) throw new DraftError(path, error.message);
      throw error;
    }
  };
  const subject = template(message.subject, "subject");
  const text = template(message.text, "text");
  const html = template(message.html, "html");
  const values = headers.map(({ name, value }) => ({ name, value: template(value, `headers.${name}`)! }));
  return (data) => ({
    ...(subject ? { subject: oneLine(fillTemplate(subject, data, "none"), "subject") } : {}),
    ...(text ? { text: fillTemplate(text, data, "none") } : {}),
    ...(html ? { html: fillTemplate(html, data, "html") } : {}),
    headers: values.map(({ name, value }) => ({
      name,
      value: oneLine(fillTemplate(value, data, "none"), `headers.${name}`),
    })),
  });
}

/** Finds an address's data, under the address as it was written or in its normal form. */
function dataFinder(data: EpoxiMessage["data"]): Mailing["data"] {
  const found = new Map<string, TemplateData>();
  for (const [key, value] of Object.entries(data ?? {})) {
    try {
      found.set(parseAddress(key, "data").address, value);
    } catch (error) {
      if (!(error instanceof DraftError)) throw error;
      throw new DraftError(`data.${key.slice(0, 320)}`, "is no address");
    }
  }
  return (address) => found.get(address) ?? {};
}

async function sendOne(
  options: HttpOptions,
  mailing: Mailing,
  email: Email,
  caller: { readonly user: string; readonly client?: string },
): Promise<Result> {
  try {
    const { from, cc, rest } = mailing;
    const draft: Draft = {
      from,
      to: email.to,
      cc,
      bcc: [],
      ...rest,
      ...mailing.fill(mailing.data(email.address)),
    };
    const { hostname } = options.config;
    const message = await renderMessage(draft, {
      hostname,
      date: options.clock.now(),
      uniqueId: options.newId(),
    });
    return {
      id: await submit(options, { from: from.address, recipients: [email.address], message, ...caller }),
    };
  } catch (error) {
    const expected = error instanceof DraftError || error instanceof TemplateError ||
      error instanceof Problem;
    if (!expected && !(error instanceof Unavailable)) {
      options.log.error("http message failed", {
        error: error instanceof Error ? error.message : String(error),
      });
    }
    const message = expected || error instanceof Unavailable
      ? (error as Error).message
      : "could not be stored";
    return { fault: { path: email.address, message }, unavailable: !expected };
  }
}

function answer(options: HttpOptions, mailing: Mailing, results: readonly Result[]): Response {
  const accepted: { id: string; address: string }[] = [];
  const errors: Fault[] = [];
  let unavailable = 0;
  results.forEach((result, i) => {
    const { address } = mailing.emails[i]!;
    if ("id" in result) {
      accepted.push({ id: result.id, address });
    } else {
      errors.push(result.fault);
      if (result.unavailable) unavailable++;
    }
  });
  if (accepted.length === 0 && unavailable === errors.length) throw notAvailable([errors[0]!.message]);
  const hops = accepted.map(({ address }) =>
    formatNextHop(options.routing(address.slice(address.lastIndexOf("@") + 1)))
  );
  const body = {
    total: results.length,
    successful: accepted.length,
    failed: errors.length,
    /** Queues these emails wait in. */
    pipelines: new Set(hops).size,
    errors,
    messages: accepted,
  };
  return Response.json(body, { status: accepted.length > 0 ? 202 : 422 });
}

async function inParallel<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const i = next++;
      results[i] = await run(items[i]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, items.length) }, worker));
  return results;
}
