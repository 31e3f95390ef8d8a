/** Parsers of option values for commander: they name what was expected. */
import { InvalidArgumentError } from "commander";
import type { HostPort } from "../config/config.ts";
import { duration, hostPort, type Kind, Unfit } from "../config/kinds.ts";

/** A `host:port`, as the settings have it; port 0 where any free port will do. */
export const hostPortValue = (anyPort: boolean) => valueOf<HostPort>(hostPort(anyPort));

/** Milliseconds from `500ms`, `30s`, `5m` … */
export const durationValue = valueOf<number>(duration());

/** A whole number from `min` to `max`. */
export function integerValue(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`expected a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** Collects a repeatable option through `parse`. */
export function repeated<T>(parse: (text: string) => T): (text: string, previous: T[] | undefined) => T[] {
  return (text, previous = []) => [...previous, parse(text)];
}

/** An option's parser out of a setting's. */
export function valueOf<T>(kind: Kind<T>): (text: string) => T {
  return (text) => {
    try {
      return kind.parse(text);
    } catch (error) {
      if (error instanceof Unfit) throw new InvalidArgumentError(`expected ${error.message}.`);
      throw error;
    }
  };
}
