/**
 * Writes the table of settings into README.md, between `<!-- settings -->` and `<!-- /settings -->`.
 * `--check` writes nothing and fails when the table is out of step.
 */
import { SETTING_NAMES, settingOf } from "../src/config/settings.ts";

const README = new URL("../README.md", import.meta.url);
const BLOCK = /(<!-- settings -->\n)[\s\S]*?(\n<!-- \/settings -->)/;

function defaultOf(name: typeof SETTING_NAMES[number]): string {
  const setting = settingOf(name);
  if (setting.defaultDoc !== undefined) return setting.defaultDoc;
  return typeof setting.default === "string" && setting.default !== "" ? `\`${setting.default}\`` : "–";
}

function table(): string {
  const rows = SETTING_NAMES.map((name) => {
    const { variable, doc } = settingOf(name);
    return [`\`${variable}\``, defaultOf(name), doc.replaceAll("|", "\\|")];
  });
  const head = ["variable", "default", "meaning"];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => [...row[i]!].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell + " ".repeat(widths[i]! - [...cell].length)).join(" | ")} |`;
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)].join(
    "\n",
  );
}

function main(check: boolean): number {
  const readme = Deno.readTextFileSync(README);
  if (!BLOCK.test(readme)) {
    console.error(
      "README.md has no <!-- settings --> and <!-- /settings --> lines to put the settings between",
    );
    return 1;
  }
  const wanted = readme.replace(
    BLOCK,
    (_, before: string, after: string) => `${before}\n${table()}\n${after}`,
  );
  if (wanted === readme) return 0;
  if (check) {
    console.error("README.md does not list the settings as they are: run `deno task docs`");
    return 1;
  }
  Deno.writeTextFileSync(README, wanted);
  return 0;
}

if (import.meta.main) Deno.exit(main(Deno.args.includes("--check")));
