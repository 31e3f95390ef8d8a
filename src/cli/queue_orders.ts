/** `epoxi queue retry`, `hold`, `release` and `delete`: for messages by id, or for all that match. */
import { Command, Option } from "commander";
import { type AdminApi, type ApiOptions, openAdminApi, type Order, withApiOptions } from "./admin_api.ts";
import { type CliDeps, CommandFailure, UsageError } from "./deps.ts";
import { printable } from "./table.ts";

interface OrderOptions extends ApiOptions {
  readonly domain?: string;
  readonly status?: string;
  readonly all?: true;
  readonly yes?: true;
}

const ORDERS: Readonly<Record<Order, { readonly does: string; readonly done: string }>> = {
  retry: { does: "try again now instead of at the next time of the schedule", done: "retried" },
  hold: { does: "keep in the queue and try no more until released", done: "held" },
  release: { does: "let held messages go on", done: "released" },
  delete: { does: "remove from the queue; no report goes to the sender", done: "deleted" },
};

/** Messages asked for at a time while an order for all that match is carried out. */
const PAGE = 500;

/** One command for each order. */
export function orderCommands(deps: CliDeps): Command[] {
  return (Object.keys(ORDERS) as Order[]).map((order) => orderCommand(deps, order));
}

function orderCommand(deps: CliDeps, order: Order): Command {
  const { does } = ORDERS[order];
  const command = withApiOptions(new Command(order))
    .description(does)
    .argument("[ids...]", "queue ids")
    .option("--domain <domain>", "every message that waits for this domain or next hop")
    .addOption(
      new Option("--status <status>", "every message of this status").choices(["queued", "deferred", "held"]),
    )
    .option("--all", "every message in the queue");
  if (order === "delete") command.option("--yes", "really, where no ids are given");
  return command
    .addHelpText(
      "after",
      `
Examples:
  epoxi queue ${order} 01kb3v5m7q8x9y2z
  epoxi queue ${order} --domain example.com${order === "delete" ? " --yes" : ""}
`,
    )
    .action((ids: string[], options: OrderOptions) => giveOrders(deps, order, ids, options));
}

async function giveOrders(deps: CliDeps, order: Order, ids: string[], options: OrderOptions): Promise<void> {
  const filtered = options.all || options.domain !== undefined || options.status !== undefined;
  if (ids.length === 0 && !filtered) {
    throw new UsageError(`queue ${order}: name ids, or give --domain, --status or --all`);
  }
  if (ids.length > 0 && filtered) {
    throw new UsageError(`queue ${order}: give either ids or --domain, --status, --all, not both`);
  }
  if (order === "delete" && filtered && !options.yes) {
    throw new UsageError("queue delete: deleting all that match needs --yes");
  }
  const api = openAdminApi(deps, options);
  const found = filtered ? matching(api, options) : ids;
  const results: { id: string; result: string }[] = [];
  for await (const id of found) {
    const result = await api.order(order, id);
    results.push({ id, result });
    if (!options.json && !filtered) deps.write(`${printable(id)}: ${said(order, result)}\n`);
  }
  if (options.json) deps.write(JSON.stringify({ order, results }, null, 2) + "\n");
  else if (filtered) {
    const gone = results.filter(({ result }) => result === "not found").length;
    deps.write(`${results.length - gone} messages ${ORDERS[order].done}\n`);
  }
  // What left the queue while we walked through it is no failure; an id the user typed is.
  const missing = results.filter(({ result }) => result === "not found");
  if (!filtered && missing.length > 0) {
    throw new CommandFailure(`${missing.length} of ${results.length} not in the queue`);
  }
}

/** Ids of all messages that match, page by page. */
async function* matching(api: AdminApi, { domain, status }: OrderOptions): AsyncGenerator<string> {
  let cursor: string | undefined;
  do {
    const page = await api.messages({ limit: PAGE, domain, status, cursor });
    for (const { id } of page.messages) yield id;
    cursor = page.cursor;
  } while (cursor !== undefined);
}

function said(order: Order, result: string): string {
  if (result === "not found") return "not in the queue";
  return result === "accepted" ? `will be ${ORDERS[order].done} shortly` : ORDERS[order].done;
}
