/** `epoxi queue list` and `epoxi queue show`. */
import { Command, Option } from "commander";
import type { FoundView, MessageView } from "../http/client.ts";
import { type ApiOptions, openAdminApi, withApiOptions } from "./admin_api.ts";
import type { CliDeps } from "./deps.ts";
import { orderCommands } from "./queue_orders.ts";
import { age, ahead, formatTable, printable } from "./table.ts";
import { integerValue } from "./values.ts";

interface ListOptions extends ApiOptions {
  readonly domain?: string;
  readonly status?: string;
  readonly limit: number;
  readonly cursor?: string;
  readonly byDomain?: true;
  readonly sort: string;
}

/** `epoxi queue …` */
export function queueCommand(deps: CliDeps): Command {
  const queue = new Command("queue").description("look at the queue of a running server, and change it");
  queue.addCommand(listCommand(deps));
  queue.addCommand(showCommand(deps));
  for (const command of orderCommands(deps)) queue.addCommand(command);
  return queue;
}

function listCommand(deps: CliDeps): Command {
  return withApiOptions(new Command("list"))
    .description("what waits in the queue, oldest first")
    .option("--domain <domain>", "only what waits for this domain or next hop")
    .addOption(new Option("--status <status>", "only these").choices(["queued", "deferred", "held"]))
    .option("--limit <count>", "lines at most", integerValue(1, 1000), 50)
    .option("--cursor <text>", "go on where the list before left off")
    .option("--by-domain", "one line for each domain instead of each message")
    .addOption(
      new Option("--sort <order>", "order of --by-domain").choices(["waiting", "oldest", "domain"])
        .default("waiting"),
    )
    .addHelpText(
      "after",
      `
Examples:
  epoxi queue list
  epoxi queue list --by-domain --sort oldest
  epoxi queue list --domain example.com --status deferred
  epoxi queue list --json | jq -r '.messages[].id'
`,
    )
    .action(async (options: ListOptions) => {
      if (options.byDomain) await listDomains(deps, options);
      else await listMessages(deps, options);
    });
}

async function listMessages(deps: CliDeps, options: ListOptions): Promise<void> {
  const api = openAdminApi(deps, options);
  const { limit, domain, status, cursor } = options;
  const page = await api.messages({ limit, domain, status, cursor });
  if (options.json) return deps.write(JSON.stringify(page, null, 2) + "\n");
  if (page.messages.length === 0) return deps.write("Nothing waits.\n");
  deps.write(messageTable(page.messages, Date.now()));
  if (page.cursor !== undefined) deps.write(`More: add --cursor ${printable(page.cursor)}\n`);
}

async function listDomains(deps: CliDeps, options: ListOptions): Promise<void> {
  const api = openAdminApi(deps, options);
  const { limit, sort, cursor } = options;
  const view = await api.queue({ limit, sort, cursor });
  if (options.json) return deps.write(JSON.stringify(view, null, 2) + "\n");
  const now = Date.now();
  deps.write(
    `${view.messages} messages for ${view.recipients} recipients wait: ${view.scheduled} scheduled, ${view.ready} ready, ` +
      `${view.inFlight} in flight, ${view.held} held; ${view.deadLetters} dead letters; oldest ${
        age(view.oldest, now)
      }\n`,
  );
  if (view.domains.length === 0) return;
  const right = "right" as const;
  deps.write(formatTable(
    [
      { title: "DOMAIN" },
      { title: "SCHEDULED", align: right },
      { title: "READY", align: right },
      { title: "IN FLIGHT", align: right },
      { title: "HELD", align: right },
      { title: "OLDEST", align: right },
      { title: "LAST REPLY" },
    ],
    view.domains.map((each) => [
      each.domain,
      each.scheduled,
      each.ready,
      each.inFlight,
      each.held,
      age(each.oldest, now),
      each.lastReply ?? "-",
    ]),
  ));
  if (view.cursor !== undefined) deps.write(`More: add --cursor ${printable(view.cursor)}\n`);
}

/** Messages as a table; used by `queue list` and `find`. */
export function messageTable(messages: readonly FoundView[], now: number): string {
  return formatTable(
    [{ title: "ID" }, { title: "AGE", align: "right" }, { title: "STATUS" }, { title: "FROM" }, {
      title: "TO",
    }],
    messages.map(({ id, from, to, status, receivedAt }) => [
      id,
      age(receivedAt, now),
      status,
      from === "" ? "<>" : from,
      to.length > 3 ? `${to.slice(0, 2).join(", ")} and ${to.length - 2} more` : to.join(", "),
    ]),
  );
}

function showCommand(deps: CliDeps): Command {
  return withApiOptions(new Command("show"))
    .description("one message: its recipients and every attempt, also after it left the queue")
    .argument("<id>", "queue id, as in `250 … queued as <id>`")
    .addHelpText("after", "\nExample:\n  epoxi queue show 01kb3v5m7q8x9y2z\n")
    .action(async (id: string, options: ApiOptions) => {
      const view = await openAdminApi(deps, options).message(id);
      deps.write(options.json ? JSON.stringify(view, null, 2) + "\n" : describeMessage(view, Date.now()));
    });
}

function describeMessage(view: MessageView, now: number): string {
  const fields: [string, string | undefined][] = [
    ["Id", view.id],
    ["Status", view.status],
    ["From", view.from === "" ? "<> (null reverse-path)" : view.from],
    ["Received", `${view.receivedAt} (${age(view.receivedAt, now)} ago) by ${view.protocol}`],
    ["Client", view.client],
    ["User", view.user],
    ["Size", `${view.size} bytes`],
    ["Message-ID", view.messageId],
    ["Report on", view.reportOf],
    ["Expires", view.expiresAt && `${view.expiresAt} (${ahead(view.expiresAt, now)})`],
  ];
  let text = "";
  for (const [name, value] of fields) {
    if (value !== undefined) text += `${`${name}:`.padEnd(12)}${printable(value)}\n`;
  }
  for (const recipient of view.recipients) {
    text += `\n${printable(recipient.address)}: ${recipient.status}`;
    if (recipient.queue) text += `, queue ${printable(recipient.queue)}`;
    if (recipient.nextAttemptAt) text += `, next attempt ${ahead(recipient.nextAttemptAt, now)}`;
    text += "\n";
    for (const { at, status, mx, reply } of recipient.attempts) {
      text += `  ${at}  ${status.padEnd(9)}  ${printable(`${mx ?? "-"}: ${reply}`)}\n`;
    }
  }
  for (const order of view.orders ?? []) {
    text += `\n${order.at}  ${order.type} by ${printable(order.by)}: ${printable(order.to.join(", "))}`;
  }
  return text.endsWith("\n") ? text : text + "\n";
}
