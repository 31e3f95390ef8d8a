/** Reads the settings of a process from its environment: a frozen `Config`, or every error at once. */
import { checkConfig, warningsOf } from "./check_config.ts";
import type { Config, SettingError } from "./config.ts";
import { domain, Unfit } from "./kinds.ts";
import { nearestName, probeMisspelled } from "./names.ts";
import { type Defaults, SETTING_NAMES, settingOf } from "./settings.ts";

/** Where settings come from; handed in, so that nothing here touches the process. */
export interface Environment {
  /** Value of a variable; undefined where it is not set. */
  read(name: string): string | undefined;
  /** Names of all variables; undefined where the process may not ask for them. */
  names(): readonly string[] | undefined;
  /** Text of a file, for variables that end in `_FILE`. Throws where it can't be read. */
  readFile(path: string): string;
  /** The machine's name. */
  readonly hostname: string;
  /** Standard output is a terminal. */
  readonly terminal: boolean;
}

/** All that is wrong with the settings. The message is fit to be shown to a person. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly errors: readonly SettingError[];

  constructor(errors: readonly SettingError[]) {
    const lines = errors.map(({ variable, value, expected }) =>
      `  ${variable}${
        value === undefined ? "" : `=${value.length > 200 ? `${value.slice(0, 200)}…` : value}`
      }\n` +
      `    expected ${expected}`
    );
    super(
      `${errors.length === 1 ? "A setting is" : `${errors.length} settings are`} wrong:\n${lines.join("\n")}`,
    );
    this.errors = errors;
  }
}

/** What Kubernetes injects into every container beside a service called `epoxi`. */
const INJECTED = /^EPOXI_(SERVICE_.*|PORT(_.*)?)$/;

/**
 * Reads and checks every setting.
 * @throws {ConfigError} naming every wrong, contradictory or unknown setting.
 */
export function readConfig(mode: Config["mode"], environment: Environment): Config {
  const errors: SettingError[] = [...unknownNames(environment)];
  const values: Record<string, unknown> = { mode };
  const { terminal } = environment;
  // A machine may have any name, such as the digits of a container; that must not stop a start without settings.
  const hostname = parsed(domain.parse, environment.hostname) ?? "localhost";
  let dataDir = "";
  for (const name of SETTING_NAMES) {
    const value = readSetting(name, { mode, hostname, terminal, dataDir }, environment, errors);
    if (value !== undefined) values[name] = value;
    if (name === "dataDir" && typeof value === "string") dataDir = value;
  }
  if (errors.length > 0) throw new ConfigError(errors);
  const config = { ...values, warnings: [] } as unknown as Config;
  const contradictions = checkConfig(config);
  if (contradictions.length > 0) throw new ConfigError(contradictions);
  return Object.freeze({ ...config, warnings: Object.freeze(warningsOf(config)) });
}

/** The settings as `NAME=value` lines in the order of the documentation, with secrets masked. */
export function describeConfig(config: Config): string {
  return SETTING_NAMES.map((name) => {
    const { variable, kind } = settingOf(name);
    // Kinds that hold secrets mask them when they format.
    return `${variable}=${kind.format(config[name])}`;
  }).join("\n") + "\n";
}

function readSetting(
  name: typeof SETTING_NAMES[number],
  defaults: Defaults,
  environment: Environment,
  errors: SettingError[],
): unknown {
  const setting = settingOf(name);
  const { variable, kind } = setting;
  const given = readVariable(variable, environment, errors);
  // An empty text means "not set", as compose files pass it; an empty list must be possible to ask for, though.
  const isList = Array.isArray(parsed(kind.parse, ""));
  const used = given !== undefined && (given !== "" || isList)
    ? given
    : typeof setting.default === "function"
    ? setting.default(defaults)
    : setting.default;
  if (used === undefined) return undefined;
  try {
    return kind.parse(used);
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    errors.push({ variable, value: setting.secret ? "***" : used, expected: error.message });
    return undefined;
  }
}

function parsed<T>(parse: (text: string) => T, text: string): T | undefined {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof Unfit) return undefined;
    throw error;
  }
}

/** The variable, or the content of the file that `<variable>_FILE` names, without its last line end. */
function readVariable(
  variable: string,
  environment: Environment,
  errors: SettingError[],
): string | undefined {
  const direct = environment.read(variable)?.trim();
  const path = environment.read(`${variable}_FILE`)?.trim();
  if (path === undefined || path === "") return direct;
  if (direct !== undefined && direct !== "") {
    const expected = `only one of ${variable} and ${variable}_FILE`;
    errors.push({ variable: `${variable}_FILE`, value: path, expected });
    return direct;
  }
  try {
    return environment.readFile(path).replace(/\r?\n$/, "").trim();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    errors.push({ variable: `${variable}_FILE`, value: path, expected: `a file that can be read (${why})` });
    return undefined;
  }
}

function unknownNames(environment: Environment): SettingError[] {
  const known = SETTING_NAMES.map((name) => settingOf(name).variable);
  const all = new Set(known.flatMap((name) => [name, `${name}_FILE`]));
  const names = environment.names() ?? probeMisspelled(known, (name) => environment.read(name) !== undefined);
  return names.filter((name) => name.startsWith("EPOXI_") && !all.has(name) && !INJECTED.test(name))
    .map((variable) => {
      const nearest = nearestName(variable, [...all]);
      const hint = nearest === undefined ? "" : `; did you mean ${nearest}?`;
      return { variable, expected: `a setting that exists${hint}` };
    });
}
