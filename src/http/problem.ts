/** Errors of the API as `application/problem+json` (RFC 9457). */
import { DraftError } from "../message/draft.ts";
import { Unavailable } from "../queue/model.ts";

/** One fault in a request, and where. */
export interface Fault {
  /** Where in the request, such as `to.0`; "" for the whole. */
  readonly path: string;
  readonly message: string;
}

const TITLES: Readonly<Record<number, string>> = {
  400: "Malformed request",
  401: "Token needed",
  403: "Not allowed",
  404: "Not found",
  409: "Conflict",
  413: "Too large",
  415: "Unsupported media type",
  422: "Invalid request",
  500: "Internal error",
  503: "Not available now",
};

/** Seconds after which a client that met {@linkcode Unavailable} may try again. */
const RETRY_AFTER = "30";

/** An answer that is an error. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly status: number;
  readonly errors: readonly Fault[];
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    detail: string,
    options: { readonly errors?: readonly Fault[]; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(detail);
    this.status = status;
    this.errors = options.errors ?? [];
    this.headers = options.headers ?? {};
  }

  response(): Response {
    const body = {
      type: "about:blank",
      title: TITLES[this.status] ?? "Error",
      status: this.status,
      detail: this.message,
      errors: this.errors,
    };
    return new Response(JSON.stringify(body), {
      status: this.status,
      headers: { ...this.headers, "content-type": "application/problem+json" },
    });
  }
}

/** 503 with `Retry-After`. */
export function notAvailable(reasons: readonly string[]): Problem {
  return new Problem(503, reasons.join(" ") || "Mail can't be accepted now.", {
    headers: { "retry-after": RETRY_AFTER },
  });
}

/** The problem an error stands for; undefined for one that nobody foresaw. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof Unavailable) return notAvailable([error.message]);
  if (error instanceof DraftError) {
    const errors = [{ path: error.path, message: error.message }];
    return new Problem(422, `${error.path}: ${error.message}`, { errors });
  }
  return undefined;
}
