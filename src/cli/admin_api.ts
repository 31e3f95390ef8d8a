/** The admin API as the commands call it. */
import { type Command, Option } from "commander";
import type { CommandResult, FoundView, MessagesView, MessageView, QueueView } from "../http/client.ts";
import { type CliDeps, CommandFailure } from "./deps.ts";
import { printable } from "./table.ts";

/** An order for one message. */
export type Order = "retry" | "hold" | "release" | "delete";

/** Options every command has that talks to a running server. */
export interface ApiOptions {
  readonly api: string;
  readonly tokenFile?: string;
  readonly json?: true;
}

/** Adds the options of {@linkcode ApiOptions}. */
export function withApiOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--api <url>", "base of the running server's HTTP API").default("http://127.0.0.1:4000"),
    )
    .option(
      "--token-file <file>",
      "file that holds an API token (kept off the command line, where others see it)",
    )
    .option("--json", "print JSON for other programs");
}

/** Makes the client of {@linkcode ApiOptions}. */
export function openAdminApi(deps: CliDeps, options: ApiOptions): AdminApi {
  let token: string | undefined;
  if (options.tokenFile !== undefined) {
    try {
      token = deps.environment.readFile(options.tokenFile).trim();
    } catch (error) {
      throw new CommandFailure(`--token-file ${options.tokenFile} cannot be read: ${messageOf(error)}`);
    }
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new CommandFailure(
        `--token-file ${options.tokenFile}: expected a token of visible ASCII on one line`,
      );
    }
  }
  return new AdminApi(options.api, token, deps.fetch);
}

/** Calls the API of a running server; every failure is a {@linkcode CommandFailure} that says what to do. */
export class AdminApi {
  readonly #base: string;
  readonly #token: string | undefined;
  readonly #fetch: typeof fetch;

  constructor(base: string, token: string | undefined, call: typeof fetch) {
    if (!/^https?:\/\/[^/]/.test(base) || !URL.canParse(base)) {
      throw new CommandFailure(`--api ${base}: expected a URL such as http://127.0.0.1:4000`);
    }
    this.#base = base.replace(/\/+$/, "");
    this.#token = token;
    this.#fetch = call;
  }

  queue(options: { limit: number; sort: string; cursor?: string | undefined }): Promise<QueueView> {
    return this.#call<QueueView>("GET", "/v1/queue", options);
  }

  messages(
    options: {
      limit: number;
      domain?: string | undefined;
      status?: string | undefined;
      cursor?: string | undefined;
    },
  ): Promise<MessagesView> {
    return this.#call<MessagesView>("GET", "/v1/messages", options);
  }

  message(id: string): Promise<MessageView> {
    return this.#call<MessageView>("GET", `/v1/messages/${encodeURIComponent(id)}`);
  }

  async find(query: string, limit: number): Promise<readonly FoundView[]> {
    return (await this.#call<MessagesView>("GET", "/v1/find", { q: query, limit })).messages;
  }

  /** Gives an order; "not found" where no message of that id waits. */
  async order(order: Order, id: string): Promise<CommandResult> {
    const path = `/v1/messages/${encodeURIComponent(id)}`;
    const response = order === "delete"
      ? await this.#send("DELETE", path)
      : await this.#send("POST", `${path}/${order}`);
    if (response.status === 404) {
      await response.body?.cancel();
      return "not found";
    }
    await this.#checked(response, path);
    await response.body?.cancel();
    return response.status === 202 ? "accepted" : "applied";
  }

  async #call<T>(
    method: string,
    path: string,
    query: Readonly<Record<string, string | number | undefined>> = {},
  ): Promise<T> {
    const parameters = Object.entries(query).filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
    const response = await this.#send(
      method,
      parameters.length > 0 ? `${path}?${parameters.join("&")}` : path,
    );
    await this.#checked(response, path);
    try {
      return await response.json() as T;
    } catch {
      throw new CommandFailure(`${this.#base}${path} answered no JSON: is this the API of epoxi?`);
    }
  }

  async #send(method: string, path: string): Promise<Response> {
    try {
      return await this.#fetch(this.#base + path, {
        method,
        headers: {
          accept: "application/json",
          ...(method === "GET" ? {} : { "content-type": "application/json" }),
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
        },
        ...(method === "POST" ? { body: "{}" } : {}),
      });
    } catch (error) {
      throw new CommandFailure(
        `no answer from ${this.#base} (${messageOf(error)}): is the server running, and is --api right?`,
      );
    }
  }

  /** @throws {CommandFailure} with the problem (RFC 9457) the server names. */
  async #checked(response: Response, path: string): Promise<void> {
    if (response.ok) return;
    const text = await response.text();
    let detail = text.slice(0, 300);
    try {
      const problem = JSON.parse(text) as { title?: unknown; detail?: unknown };
      detail = [problem.title, problem.detail].filter((part) => typeof part === "string").join(": ");
    } catch {
      // Not a problem document: something in between answered.
    }
    const hint = response.status === 401
      ? " (give a token with --token-file)"
      : response.status === 403
      ? " (the token lacks the scope for this)"
      : "";
    throw new CommandFailure(printable(`${path}: ${response.status} ${detail}${hint}`));
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
