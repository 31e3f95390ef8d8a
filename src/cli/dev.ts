/** `epoxi dev`: the server on a developer's machine. */
import { Command } from "commander";
import type { CliDeps } from "./deps.ts";

/** `epoxi dev`; `ended` hears the exit code. */
export function devCommand(deps: CliDeps, ended: (code: number) => void): Command {
  return new Command("dev")
    .description("run the server for development: mail for the outside is captured, never sent")
    .addHelpText(
      "after",
      `
SMTP on 127.0.0.1:2525, web page and API on http://127.0.0.1:4000, data in ./data/dev.
The settings are the same EPOXI_* variables as for serve.

Example, in two terminals:
  epoxi dev
  epoxi send --to someone@example.com --subject Hello
Then open http://127.0.0.1:4000 to see the message.
`,
    )
    .action(async () => ended(await deps.serve("dev")));
}
