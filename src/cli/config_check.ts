/** `epoxi config check`: are the settings right, and what are they? */
import { Command, Option } from "commander";
import { ConfigError, describeConfig, readConfig } from "../config/read_config.ts";
import { type CliDeps, CommandFailure } from "./deps.ts";

/** `epoxi config …` */
export function configCommand(deps: CliDeps): Command {
  return new Command("config").description("the settings, which come from the environment")
    .addCommand(checkCommand(deps));
}

function checkCommand(deps: CliDeps): Command {
  return new Command("check")
    .description("check every setting as `serve` would, and print what is in force (secrets masked)")
    .addOption(new Option("--mode <mode>", "whose defaults").choices(["serve", "dev"]).default("serve"))
    .option("--quiet", "print errors and warnings only")
    .addHelpText(
      "after",
      `
Examples:
  epoxi config check
  EPOXI_RETRY_SCHEDULE=1m,10m,1h epoxi config check --quiet && systemctl restart epoxi
`,
    )
    .action((options: { readonly mode: "serve" | "dev"; readonly quiet?: true }) => {
      try {
        const config = readConfig(options.mode, deps.environment);
        if (!options.quiet) deps.write(describeConfig(config));
        for (const warning of config.warnings) deps.writeError(`warning: ${warning}\n`);
      } catch (error) {
        if (error instanceof ConfigError) throw new CommandFailure(error.message);
        throw error;
      }
    });
}
