/**
 * Checks the house rules on imports over `deno info --json` (type imports count): each room imports only what
 * the table allows, files make no circle, and no file is over 600 lines. Prints each violation; exits 1 if any.
 */
import { fileURLToPath } from "node:url";

/** The project's folder, with a slash at its end. */
const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What each room may import, beside itself. `*` is every room. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  config: [],
  platform: [],
  telemetry: [],
  smtp: [],
  message: ["smtp"],
  kv: ["platform", "telemetry"],
  queue: ["kv", "smtp", "message", "platform", "telemetry", "config"],
  events: ["kv", "platform", "telemetry", "config"],
  cluster: ["kv", "platform", "telemetry", "config"],
  server: ["queue", "message", "smtp", "platform", "telemetry", "config"],
  delivery: ["queue", "message", "smtp", "platform", "telemetry", "config"],
  http: ["queue", "events", "cluster", "message", "smtp", "platform", "telemetry", "config"],
  cli: ["http", "message", "smtp", "platform", "config"],
  // The composition root: files directly in src/, and main.ts.
  "": ["*"],
};
/** The only file of `http` that `cli` may import. */
const HTTP_CLIENT = "src/http/client.ts";
const LINES_MAX = 600;

interface Module {
  readonly specifier: string;
  readonly local?: string;
  readonly dependencies?: readonly {
    readonly specifier: string;
    readonly code?: { readonly specifier?: string };
    readonly type?: { readonly specifier?: string };
  }[];
}

/** Files of the project and the files each imports, both as paths from the root. */
type Graph = ReadonlyMap<string, readonly string[]>;

/** The room of a file: the folder under src/, "" for the composition root; undefined outside of both. */
export function roomOf(file: string): string | undefined {
  const match = /^src\/([^/]+)\/.+/.exec(file);
  return match ? match[1] : /^(main|src\/[^/]+)\.ts$/.test(file) ? "" : undefined;
}

/** Every violation of the import table and of "no circles", one sentence each. */
export function importViolations(graph: Graph): string[] {
  const violations: string[] = [];
  for (const [file, imports] of graph) {
    const room = roomOf(file);
    if (room === undefined) continue;
    const allowed = MAY_IMPORT[room];
    if (allowed === undefined) violations.push(`${file}: there is no room "${room}" in the table`);
    for (const imported of imports) {
      const target = roomOf(imported);
      if (target === undefined || target === room || allowed?.includes("*")) continue;
      if (!allowed?.includes(target)) {
        violations.push(
          `${file} imports ${imported}: ${room} may not import ${target === "" ? "the root" : target}`,
        );
      } else if (room === "cli" && target === "http" && imported !== HTTP_CLIENT) {
        violations.push(`${file} imports ${imported}: cli may import only ${HTTP_CLIENT} of http`);
      }
    }
  }
  const circle = findCircle(graph);
  if (circle) violations.push(`circle: ${circle.join(" → ")}`);
  return violations;
}

/** The first circle of imports, from a file back to itself. */
function findCircle(graph: Graph): string[] | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] | undefined => {
    const at = path.indexOf(file);
    if (at >= 0) return [...path.slice(at), file];
    if (done.has(file)) return undefined;
    path.push(file);
    for (const imported of graph.get(file) ?? []) {
      const circle = visit(imported);
      if (circle) return circle;
    }
    path.pop();
    done.add(file);
    return undefined;
  };
  for (const file of graph.keys()) {
    const circle = visit(file);
    if (circle) return circle;
  }
  return undefined;
}

function* sourceFiles(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(ROOT + folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sourceFiles(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

/** Adds what `entry` reaches to `graph`. */
function addGraph(graph: Map<string, readonly string[]>, entry: string): void {
  const { success, stdout, stderr } = new Deno.Command("deno", {
    args: ["info", "--json", entry],
    cwd: ROOT,
  }).outputSync();
  if (!success) throw new Error(`deno info ${entry} failed: ${new TextDecoder().decode(stderr)}`);
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as { modules: readonly Module[] };
  for (const { specifier, dependencies = [] } of modules) {
    const file = projectPath(specifier);
    if (file === undefined) continue;
    const imports = dependencies.flatMap(({ code, type }) => [code?.specifier, type?.specifier])
      .map((each) => each === undefined ? undefined : projectPath(each))
      .filter((each) => each !== undefined);
    graph.set(file, [...new Set(imports)]);
  }
}

function projectPath(specifier: string): string | undefined {
  if (!specifier.startsWith("file:")) return undefined;
  const path = fileURLToPath(specifier);
  return path.startsWith(ROOT) && !path.includes("/node_modules/") ? path.slice(ROOT.length) : undefined;
}

function main(): number {
  const graph = new Map<string, readonly string[]>();
  // What main.ts doesn't reach (yet) must keep the rules as well.
  for (const entry of ["main.ts", ...sourceFiles("src")]) {
    if (!graph.has(entry) && existsSync(entry)) addGraph(graph, entry);
  }
  const violations = importViolations(graph);
  for (const file of [...sourceFiles("src"), ...sourceFiles("scripts"), ...sourceFiles("tests")]) {
    const lines = Deno.readTextFileSync(ROOT + file).split("\n").length - 1;
    if (lines > LINES_MAX) violations.push(`${file} has ${lines} lines; at most ${LINES_MAX} are allowed`);
  }
  for (const violation of violations) console.error(violation);
  return violations.length === 0 ? 0 : 1;
}

function existsSync(file: string): boolean {
  try {
    return Deno.statSync(ROOT + file).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

if (import.meta.main) Deno.exit(main());
