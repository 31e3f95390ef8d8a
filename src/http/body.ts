/** Reads request bodies within a limit. */
import type { Context } from "hono";
import type { z } from "zod";
import { type HttpEnv, isJson } from "./access.ts";
import { type Fault, Problem } from "./problem.ts";

/**
 * The request's JSON.
 * @throws {Problem} 415 for another type, 413 over `limit` bytes, 400 for what is no JSON.
 */
export async function readJson(c: Context<HttpEnv>, limit: number): Promise<unknown> {
  if (!isJson(c.req.header("content-type"))) throw new Problem(415, "Send content-type: application/json.");
  const encoding = c.req.header("content-encoding");
  if (encoding !== undefined && encoding !== "identity") {
    throw new Problem(415, `Content-encoding "${encoding.slice(0, 40)}" is not supported.`);
  }
  const bytes = await readBody(c, limit);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem(400, "The body is not UTF-8.");
  }
  return parseJson(text, "The body");
}

/** @throws {Problem} 400 that says where the JSON breaks, without repeating it. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const at = error instanceof Error
      ? /\((line \d+ column \d+)\)|position \d+/.exec(error.message)?.[0]
      : undefined;
    throw new Problem(400, `${what} is not JSON${at === undefined ? "" : ` (${at.replace(/[()]/g, "")})`}.`);
  }
}

async function readBody(c: Context<HttpEnv>, limit: number): Promise<Uint8Array> {
  const tooLarge = () => new Problem(413, `The body is over ${limit} bytes.`);
  const declared = Number(c.req.header("content-length") ?? 0);
  if (declared > limit) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge();
    chunks.push(chunk);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

/**
 * Checks a value against a schema.
 * @throws {Problem} with `status`, naming every fault and its place.
 */
export function checkShape<T>(schema: z.ZodType<T>, value: unknown, status: 400 | 422): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const errors: Fault[] = result.error.issues.map(({ path, message }) => ({ path: path.join("."), message }));
  const [first] = errors;
  const detail = first === undefined
    ? "The request is invalid."
    : `${first.path || "The request"}: ${first.message}`;
  throw new Problem(status, detail, { errors });
}
