/** Epoxi: a mail transfer agent in one executable. See README.md. */
import { runProgram } from "./src/cli/program.ts";
import { processDeps } from "./src/process.ts";
import manifest from "./deno.json" with { type: "json" };

if (import.meta.main) Deno.exitCode = await runProgram(processDeps(manifest.version), Deno.args);
