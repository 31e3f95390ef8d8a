/** Levels in rising order of importance. */
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = typeof LOG_LEVELS[number];

/** Fields of a log line. Never bodies, never secrets. `id` is the queue id wherever there is one. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** Writes one structured line per event. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

/** Options of {@linkcode createLog}. */
export interface LogOptions {
  readonly format: "text" | "json";
  readonly level: LogLevel;
  /** Receives each finished line, without its newline. */
  readonly write: (line: string) => void;
  readonly now: () => number;
}

/** A log that writes lines as JSON objects, or as text for people. */
export function createLog(options: LogOptions): Log {
  const threshold = LOG_LEVELS.indexOf(options.level);
  const at = (level: LogLevel) => (event: string, fields: LogFields = {}) => {
    if (LOG_LEVELS.indexOf(level) < threshold) return;
    const time = new Date(options.now()).toISOString();
    options.write(
      options.format === "json"
        ? JSON.stringify({ time, level, event, ...fields })
        : textLine(time, level, event, fields),
    );
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function textLine(time: string, level: LogLevel, event: string, fields: LogFields): string {
  let line = `${time} ${level.padEnd(5)} ${event}`;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = Array.isArray(value) ? value.join(",") : String(value);
    // Quoting keeps a hostile reply or address from forging a second line or field.
    line += ` ${name}=${/^[\x21\x23-\x7e]+$/.test(text) ? text : JSON.stringify(text)}`;
  }
  return line;
}

/** A log that drops everything, for tests and short commands. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
