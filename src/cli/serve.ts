/** `epoxi serve`: the server. */
import { Command } from "commander";
import type { CliDeps } from "./deps.ts";

/** `epoxi serve`; `ended` hears the exit code. */
export function serveCommand(deps: CliDeps, ended: (code: number) => void): Command {
  return new Command("serve")
    .description("run the server, with settings from the environment, until SIGTERM or SIGINT")
    .addHelpText(
      "after",
      `
Settings are EPOXI_* variables; each can be given as <NAME>_FILE, a file that holds the value.
Check them first with: epoxi config check

Examples:
  EPOXI_HOSTNAME=mx.example.com epoxi serve
  EPOXI_HOSTNAME=mx.example.com EPOXI_ROUTES='*=smarthost.example.net:25' epoxi serve

SIGTERM and SIGINT drain: no new mail, what is in flight is finished, exit code 0. A second one stops at once.
`,
    )
    .action(async () => ended(await deps.serve("serve")));
}
