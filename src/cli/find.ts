/** `epoxi find`: what became of a message. */
import { Command } from "commander";
import { type ApiOptions, openAdminApi, withApiOptions } from "./admin_api.ts";
import { type CliDeps, CommandFailure } from "./deps.ts";
import { messageTable } from "./queue.ts";
import { printable } from "./table.ts";
import { integerValue } from "./values.ts";

/** `epoxi find <address or Message-ID>` */
export function findCommand(deps: CliDeps): Command {
  return withApiOptions(new Command("find"))
    .description(
      "messages with this sender, recipient or Message-ID, newest first, also after they left the queue",
    )
    .argument("<query>", "an address, or a Message-ID with or without angle brackets")
    .option("--limit <count>", "lines at most", integerValue(1, 1000), 50)
    .addHelpText(
      "after",
      `
Examples:
  epoxi find someone@example.com
  epoxi find '<20260102030405.ab12@example.com>'
Then look at one of them:
  epoxi queue show <id>
`,
    )
    .action(async (query: string, options: ApiOptions & { readonly limit: number }) => {
      const messages = await openAdminApi(deps, options).find(query, options.limit);
      if (options.json) deps.write(JSON.stringify({ messages }, null, 2) + "\n");
      else if (messages.length > 0) deps.write(messageTable(messages, Date.now()));
      // Like grep: a search that finds nothing is a failure to a script.
      if (messages.length === 0) throw new CommandFailure(`nothing found for ${printable(query)}`);
    });
}
