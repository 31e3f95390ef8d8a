// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** What MAIL and RCPT parameters have in common (RFC 5321 §4.1.2 `Mail-parameters`). */
import { CommandError } from "./command_error.ts";

/** One `KEYWORD[=value]`; the keyword is in upper case. */
export type Parameter = readonly [keyword: string, value: string | undefined];

/**
 * Splits a parameter list.
 * @throws {CommandError} for malformed or repeated ones.
 */
export function splitParameters(text: string): Parameter[] {
  if (text === "") return [];
  const seen = new Set<string>();
  return text.split(/ +/).map((each) => {
    const match = /^([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20\x7f]+))?$/.exec(each);
    if (!match) throw new CommandError(501, "5.5.4", "Malformed parameter");
    const keyword = match[1]!.toUpperCase();
    if (seen.has(keyword)) {
      throw new CommandError(501, "5.5.4", `Parameter ${keyword.slice(0, 32)} is given twice`);
    }
    seen.add(keyword);
    return [keyword, match[2]];
  });
}

/** Reply to a parameter nobody knows (RFC 5321 §4.1.1.11). */
export function unknownParameter(command: string, keyword: string): CommandError {
  return new CommandError(555, "5.5.4", `${command} parameter ${keyword.slice(0, 32)} is not known`);
}

/** Reply to a parameter whose value is not what was expected. */
export function badParameter(keyword: string, expected: string): CommandError {
  return new CommandError(501, "5.5.4", `Expected ${keyword}=${expected}`);
}
