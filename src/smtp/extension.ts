/** Service extensions as a server offers them in its EHLO reply (RFC 5321 §4.1.1.1). */
import type { Reply } from "./reply.ts";

/** What a server offers. */
export interface Extensions {
  /** Upper-case keyword to its parameters. */
  readonly keywords: ReadonlyMap<string, string>;
  has(keyword: string): boolean;
  /** SIZE (RFC 1870), bytes; absent where it is not told or is 0. */
  readonly maxSize?: number;
  /** Upper case (RFC 4954). */
  readonly authMechanisms: readonly string[];
  /** LIMITS (RFC 9422). */
  readonly limits: { readonly mailMax?: number; readonly rcptMax?: number };
}

/** Reads an EHLO reply. Lines that are no keyword are skipped. */
export function parseEhlo(reply: Reply): Extensions {
  const keywords = new Map<string, string>();
  for (const line of reply.lines.slice(1)) {
    const match = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?$/.exec(line.trim());
    if (match) keywords.set(match[1]!.toUpperCase(), (match[2] ?? "").trim());
  }
  return extensions(keywords);
}

/** A server that knows only HELO. */
export const NO_EXTENSIONS: Extensions = extensions(new Map());

function extensions(keywords: ReadonlyMap<string, string>): Extensions {
  const size = Number(keywords.get("SIZE") || "0");
  const limits = new Map(
    (keywords.get("LIMITS") ?? "").split(" ").map((each) => each.toUpperCase().split("=")).map((
      [name, value],
    ) => [name ?? "", Number(value)]),
  );
  const limit = (name: string) => {
    const value = limits.get(name);
    return value !== undefined && Number.isSafeInteger(value) && value > 0 ? value : undefined;
  };
  const [mailMax, rcptMax] = [limit("MAILMAX"), limit("RCPTMAX")];
  return {
    keywords,
    has: (keyword) => keywords.has(keyword),
    ...(Number.isSafeInteger(size) && size > 0 ? { maxSize: size } : {}),
    authMechanisms: (keywords.get("AUTH") ?? "").toUpperCase().split(/\s+/).filter(Boolean),
    limits: {
      ...(mailMax === undefined ? {} : { mailMax }),
      ...(rcptMax === undefined ? {} : { rcptMax }),
    },
  };
}
