/** The HTTP side: API, health, metrics and the web page. */
import { createHash } from "node:crypto";
import { Hono } from "hono";
import { Access, type HttpEnv } from "./access.ts";
import { capturedRoutes } from "./captured_routes.ts";
import { epoxiRoutes } from "./epoxi_routes.ts";
import type { HttpOptions } from "./options.ts";
import page from "./page.html" with { type: "text" };
import { pipelineRoutes } from "./pipeline_routes.ts";
import { Problem, problemOf } from "./problem.ts";
import { queueRoutes } from "./queue_routes.ts";
import { sendRoutes } from "./send_routes.ts";

export type { HttpOptions } from "./options.ts";

/** The app; `app.fetch(request, { client: "<address>" })` answers a request. */
export function createHttpApp(options: HttpOptions): Hono<HttpEnv> {
  const { config, acceptor, metrics, log } = options;
  const access = new Access(config.apiTokens);
  const app = new Hono<HttpEnv>();

  app.use(async (c, next) => {
    await next();
    c.res.headers.set("x-content-type-options", "nosniff");
    c.res.headers.set("referrer-policy", "no-referrer");
    if (!c.res.headers.has("cache-control")) c.res.headers.set("cache-control", "no-store");
  });
  app.get("/ping", (c) => c.text("pong!"));
  app.get("/livez", (c) => c.json({ status: "live" }));
  app.get("/readyz", (c) => {
    const reasons = acceptor.reasons();
    return c.json(
      { status: reasons.length === 0 ? "ready" : "not ready", reasons },
      reasons.length === 0 ? 200 : 503,
    );
  });

  app.use(access.local);
  const policy = pagePolicy(page);
  app.get("/", (c) => c.html(page, 200, { "content-security-policy": policy, "x-frame-options": "DENY" }));
  app.get("/metrics", access.need("read"), (c) => {
    return c.text(metrics.text(), 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
  });
  app.get("/v1/status", access.need("read"), (c) => {
    const { mode, hostname, warnings } = config;
    return c.json({
      mode,
      hostname,
      warnings,
      reasons: acceptor.reasons(),
      now: new Date(options.clock.now()),
    });
  });
  for (const routes of [sendRoutes, epoxiRoutes, queueRoutes, capturedRoutes, pipelineRoutes]) {
    app.route("/", routes(options, access));
  }

  app.notFound((c) =>
    new Problem(404, `There is no ${c.req.method} ${c.req.path.slice(0, 200)}.`).response()
  );
  app.onError((error, c) => {
    const problem = problemOf(error);
    if (problem) return problem.response();
    log.error("http request failed", { method: c.req.method, path: c.req.path, error: error.message });
    return new Problem(500, "The request failed; the log says why.").response();
  });
  return app;
}

/**
 * Lets the page run its own script and nothing else. Styles may be inline, because captured mail is shown in a frame
 * that inherits this policy, and mail is styled inline; its images come from the mail itself or not at all.
 */
function pagePolicy(html: string): string {
  const script = /<script>([\s\S]*?)<\/script>/.exec(html)?.[1] ?? "";
  const hash = createHash("sha256").update(script).digest("base64");
  return [
    "default-src 'none'",
    `script-src 'sha256-${hash}'`,
    "style-src 'unsafe-inline'",
    "connect-src 'self'",
    "img-src data:",
    "frame-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
