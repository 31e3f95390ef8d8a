/** The HTTP app over fakes, called without a socket. */
import { createHttpApp, type HttpOptions } from "../../src/http/app.ts";
import { createRouting } from "../../src/queue/next_hop.ts";
import { silentLog } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { FakeAcceptor, FakeQueueApi } from "../support/fake_queue.ts";

export const NOW = Date.UTC(2026, 10, 24, 9, 24, 23);

/** A request; `json` becomes its body. */
export interface Call {
  readonly method?: string;
  readonly json?: unknown;
  readonly body?: BodyInit;
  readonly headers?: Record<string, string>;
  readonly client?: string;
  readonly token?: string;
}

export function harness(changes: Partial<HttpOptions["config"]> & { pools?: readonly string[] } = {}) {
  const { pools, ...config } = changes;
  const queue = new FakeQueueApi();
  const acceptor = new FakeAcceptor();
  const metrics = new Metrics();
  const errors: string[] = [];
  let next = 1;
  const app = createHttpApp({
    config: {
      mode: "dev",
      hostname: "mx.example.org",
      apiTokens: [],
      maxMessageSize: 1024 * 1024,
      warnings: [],
      ...config,
    },
    queue,
    acceptor,
    metrics,
    clock: { now: () => NOW },
    log: { ...silentLog, error: (event, fields) => errors.push(`${event} ${JSON.stringify(fields)}`) },
    routing: createRouting({ localDomains: [], routes: [], capture: false }),
    newId: () => `unique${next++}`,
    ...(pools ? { pools } : {}),
  });
  const call = async (
    path: string,
    { method, json, body, headers, client = "127.0.0.1", token }: Call = {},
  ) => {
    const payload = json === undefined ? body : JSON.stringify(json);
    const request = new Request(`http://localhost:4000${path}`, {
      method: method ?? (payload === undefined ? "GET" : "POST"),
      ...(payload === undefined ? {} : { body: payload }),
      headers: {
        host: "localhost:4000",
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
    });
    const response = await app.fetch(request, { client });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    return {
      status: response.status,
      headers: response.headers,
      type,
      text,
      json: /json/.test(type) ? JSON.parse(text) : undefined,
    };
  };
  return { app, queue, acceptor, metrics, errors, call };
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
