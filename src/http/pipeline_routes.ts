/** Epoxi's view of live delivery: `/admin/pipelines`. */
import { Hono } from "hono";
import type { PipelineView } from "../queue/api.ts";
import type { Access, HttpEnv } from "./access.ts";
import type { HttpOptions } from "./options.ts";
import { Problem } from "./problem.ts";

/** Routes on live lanes. */
export function pipelineRoutes({ queue }: HttpOptions, access: Access): Hono<HttpEnv> {
  const app = new Hono<HttpEnv>();
  const read = access.need("read");
  app.get("/admin/pipelines", read, async (c) => c.json(statistics(await queue.pipelines())));
  app.get("/admin/pipelines/health", read, async (c) => c.json(await queue.pipelines()));
  app.get("/admin/pipelines/:key", read, async (c) => {
    const key = c.req.param("key");
    const found = (await queue.pipelines()).filter(({ routing_key }) => routing_key === key);
    if (found.length === 0) throw new Problem(404, `There is no pipeline ${key.slice(0, 200)}.`);
    return c.json(found);
  });
  return app;
}

function statistics(pipelines: readonly PipelineView[]) {
  const health = { healthy: 0, unhealthy: 0, unknown: 0 };
  const nodes = new Map<string, number>();
  const keys = new Map<string, number>();
  for (const each of pipelines) {
    health[each.health]++;
    nodes.set(each.node, (nodes.get(each.node) ?? 0) + 1);
    keys.set(each.routing_key, (keys.get(each.routing_key) ?? 0) + 1);
  }
  const load = [...nodes].map((
    [node, count],
  ) => [node, { pipelines: count, avg_load: averageLoad(pipelines, node) }]);
  return {
    pipeline_stats: {
      total_pipelines: pipelines.length,
      pipelines_by_node: Object.fromEntries(nodes),
      pipelines_by_routing_key: Object.fromEntries(keys),
    },
    health_summary: health,
    routing_key_distribution: Object.fromEntries(keys),
    node_load_distribution: Object.fromEntries(load),
  };
}

/** Deliveries in flight for each lane of a node. */
function averageLoad(pipelines: readonly PipelineView[], node: string): number {
  const own = pipelines.filter((each) => each.node === node);
  return own.reduce((sum, { in_flight = 0 }) => sum + in_flight, 0) / own.length;
}
