/** `epoxi health`: is the server on this machine well? For health checks of containers. */
import { Command } from "commander";
import { type CliDeps, CommandFailure } from "./deps.ts";
import { printable } from "./table.ts";

/** Seconds a server may take to say that it lives. */
const PATIENCE = 5;

/** `epoxi health` */
export function healthCommand(deps: CliDeps): Command {
  return new Command("health")
    .description("ask a running server whether it takes mail, and why not; exit code 0 or 1, no token needed")
    .option("--api <url>", "base of its HTTP API", "http://127.0.0.1:4000")
    .option("--live", "ask only whether it runs, also where it can't take mail just now")
    .addHelpText(
      "after",
      `
Examples:
  epoxi health
  epoxi health --live --api http://127.0.0.1:4000
`,
    )
    .action((options: { readonly api: string; readonly live?: true }) => health(deps, options));
}

async function health(deps: CliDeps, options: { readonly api: string; readonly live?: true }): Promise<void> {
  const url = options.api.replace(/\/+$/, "") + (options.live ? "/livez" : "/readyz");
  let response: Response;
  let text: string;
  try {
    response = await deps.fetch(url, { signal: AbortSignal.timeout(PATIENCE * 1000) });
    text = await response.text();
  } catch (error) {
    throw new CommandFailure(`no answer from ${url}: ${error instanceof Error ? error.message : error}`);
  }
  if (!response.ok) throw new CommandFailure(`${url}: ${response.status} ${printable(text.slice(0, 1000))}`);
  deps.write("ok\n");
}
