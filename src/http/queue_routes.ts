/** Looks into the queue and orders it about: `/v1/messages/…`, `/v1/queue`, `/v1/find`, `/v1/dead`. */
import { type Context, Hono } from "hono";
import { z } from "zod";
import type { CommandKind, CommandResult, Page } from "../queue/api.ts";
import type { Access, HttpEnv } from "./access.ts";
import { checkShape } from "./body.ts";
import type { HttpOptions } from "./options.ts";
import { Problem } from "./problem.ts";
import { streamContent } from "./content.ts";

const page = {
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().min(1).max(1000).optional(),
};
const queueQuery = z.strictObject({
  ...page,
  sort: z.enum(["waiting", "oldest", "domain"]).default("waiting"),
});
const listQuery = z.strictObject({
  ...page,
  domain: z.string().min(1).max(300).optional(),
  status: z.enum(["queued", "deferred", "held"]).optional(),
});
const findQuery = z.strictObject({
  q: z.string({ error: "expected an address or a Message-ID" }).trim().min(
    1,
    "expected an address or a Message-ID",
  )
    .max(1000),
  limit: page.limit,
});
const pageQuery = z.strictObject(page);

/** The page a request asks for. @throws {Problem} 400 */
export function pageOf(c: Context<HttpEnv>): Page {
  return withoutUndefined(checkShape(pageQuery, c.req.query(), 400)) as Page;
}

/** Routes on messages in the queue and dead letters. */
export function queueRoutes(options: HttpOptions, access: Access): Hono<HttpEnv> {
  const { queue } = options;
  const app = new Hono<HttpEnv>();
  const [read, admin] = [access.need("read"), access.need("admin")];

  app.get("/v1/queue", read, async (c) => {
    const query = checkShape(queueQuery, c.req.query(), 400);
    return c.json(await queue.summary(withoutUndefined(query)));
  });
  app.get("/v1/messages", read, async (c) => {
    return c.json(await queue.list(withoutUndefined(checkShape(listQuery, c.req.query(), 400))));
  });
  app.get("/v1/messages/:id", read, async (c) => {
    const found = await queue.get(c.req.param("id"));
    if (!found) throw noMessage(c.req.param("id"));
    return c.json(found);
  });
  // The content may be anybody's private mail: seeing the queue is not enough to read it.
  app.get("/v1/messages/:id/content", admin, async (c) => {
    const content = await queue.content(c.req.param("id"));
    if (!content) throw noMessage(c.req.param("id"));
    return streamContent(content, c.req.param("id"), c.env?.closing);
  });
  for (const kind of ["retry", "hold", "release"] as const) {
    app.post(`/v1/messages/:id/${kind}`, admin, (c) => order(c, kind));
  }
  app.delete("/v1/messages/:id", admin, (c) => order(c, "cancel"));
  const order = async (c: Context<HttpEnv, "/v1/messages/:id">, kind: CommandKind) => {
    const id = c.req.param("id");
    return commandAnswer(id, await queue.command(kind, id, c.get("caller")));
  };

  app.get("/v1/find", read, async (c) => {
    const { q, limit } = checkShape(findQuery, c.req.query(), 400);
    return c.json({ messages: await queue.find(q, limit) });
  });

  app.get("/v1/dead", read, async (c) => c.json(await queue.dead(pageOf(c))));
  app.post("/v1/dead/:id/replay", admin, async (c) => {
    return commandAnswer(c.req.param("id"), await queue.replay(c.req.param("id"), c.get("caller")));
  });
  app.delete("/v1/dead/:id", admin, async (c) => {
    return commandAnswer(c.req.param("id"), await queue.purge(c.req.param("id"), c.get("caller")));
  });
  return app;
}

/** 200 when done, 202 when it will be; 404 where there is nothing to do it to. */
export function commandAnswer(id: string, result: CommandResult): Response {
  if (result === "not found") throw noMessage(id);
  return Response.json({ id, result }, { status: result === "applied" ? 200 : 202 });
}

/** 404 for a message. */
export function noMessage(id: string): Problem {
  return new Problem(404, `There is no message ${id.slice(0, 100)}.`);
}

function withoutUndefined<T extends object>(query: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(query).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
