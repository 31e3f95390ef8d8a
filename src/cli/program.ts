/** The command line: commands, help and exit codes. */
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config/read_config.ts";
import { configCommand } from "./config_check.ts";
import { type CliDeps, CommandFailure, EXIT, UsageError } from "./deps.ts";
import { devCommand } from "./dev.ts";
import { findCommand } from "./find.ts";
import { healthCommand } from "./health.ts";
import { queueCommand } from "./queue.ts";
import { sendCommand } from "./send.ts";
import { serveCommand } from "./serve.ts";
import { sinkCommand } from "./sink.ts";

export type { CliDeps } from "./deps.ts";

const HELP_WIDTH = 110;

/** All commands; `ended` hears the exit code of a server that stopped. */
export function createProgram(deps: CliDeps, ended: (code: number) => void): Command {
  const program = new Command("epoxi")
    .description("A mail transfer agent: takes mail over SMTP and HTTP, keeps it safe, delivers it.")
    .version(deps.version, "-V, --version", "print the version")
    .addHelpText(
      "after",
      `
Begin here:
  epoxi dev                                   everything on this machine; mail is captured, never sent
  epoxi send --to someone@example.com         a first message, from another terminal
  epoxi <command> --help                      options and examples of a command

Exit codes: 0 done, 1 failed, 2 wrong usage.
`,
    )
    .addCommand(serveCommand(deps, ended))
    .addCommand(devCommand(deps, ended))
    .addCommand(sendCommand(deps))
    .addCommand(sinkCommand(deps))
    .addCommand(queueCommand(deps))
    .addCommand(findCommand(deps))
    .addCommand(healthCommand(deps))
    .addCommand(configCommand(deps));
  prepare(program, deps);
  return program;
}

/**
 * Runs one command line (without the program's name) to its end and answers the exit code. Failures are told in a
 * sentence on standard error, never as a stack trace.
 */
export async function runProgram(deps: CliDeps, args: readonly string[]): Promise<number> {
  let code: number = EXIT.ok;
  const program = createProgram(deps, (ended) => code = ended);
  try {
    await program.parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    return failure(deps, error);
  }
}

function failure(deps: CliDeps, error: unknown): number {
  // Commander has told already; `--help` and `--version` end this way too, with 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (error instanceof UsageError) {
    deps.writeError(`epoxi: ${error.message}\n`);
    return EXIT.usage;
  }
  if (error instanceof CommandFailure || error instanceof ConfigError) {
    deps.writeError(`epoxi: ${error.message}\n`);
    return EXIT.failure;
  }
  deps.writeError(`epoxi: ${error instanceof Error ? error.message : String(error)}\n`);
  return EXIT.failure;
}

/** Keeps commander away from the process, for every command: it must not exit, print or look up the terminal. */
function prepare(command: Command, deps: CliDeps): void {
  command.exitOverride();
  command.showHelpAfterError("(add --help for options and examples)");
  command.configureOutput({
    writeOut: deps.write,
    writeErr: deps.writeError,
    getOutHelpWidth: () => HELP_WIDTH,
    getErrHelpWidth: () => HELP_WIDTH,
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  });
  for (const each of command.commands) prepare(each, deps);
}
