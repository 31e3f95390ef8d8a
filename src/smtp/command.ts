// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** Commands: RFC 5321 §4.1, with the parameters of RFC 1870, 3030, 3461, 4954, 6152, 6531 and 8689. */
import { AddressError, formatMailbox, parseForwardPath, parseMailbox, parseReversePath } from "./address.ts";
import { encodeMailParameters, type MailParameters, parseMailParameters } from "./mail_parameters.ts";
import { encodeRcptParameters, parseRcptParameters, type RcptParameters } from "./rcpt_parameters.ts";
import { CommandError } from "./command_error.ts";

export { CommandError, type MailParameters, type RcptParameters };

/** One command line. Paths are bare addresses, `local-part@domain` with the local part quoted where needed. */
export type Command =
  | { readonly verb: "EHLO" | "HELO" | "LHLO"; readonly domain: string }
  | {
    readonly verb: "MAIL";
    /** "" is the null reverse-path. */
    readonly reversePath: string;
    readonly parameters: MailParameters;
  }
  | {
    readonly verb: "RCPT";
    /** `postmaster`, in any case, may stand alone. */
    readonly forwardPath: string;
    readonly parameters: RcptParameters;
  }
  | { readonly verb: "DATA" | "RSET" | "QUIT" | "STARTTLS" }
  | { readonly verb: "BDAT"; readonly size: number; readonly last: boolean }
  | {
    readonly verb: "AUTH";
    /** Upper case. */
    readonly mechanism: string;
    /** Base64 as given; "" where `=` stands for an empty one. */
    readonly initialResponse?: string;
  }
  | { readonly verb: "NOOP" | "HELP" | "VRFY" | "EXPN"; readonly argument?: string };

/** What the session knows. */
export interface CommandOptions {
  /** SMTPUTF8 was given on MAIL (MAIL itself is looked through for it). */
  readonly utf8?: boolean;
}

/**
 * Parses a command line without its CRLF.
 * @throws {CommandError} with the reply to send.
 */
export function parseCommand(line: string, options: CommandOptions = {}): Command {
  const space = line.indexOf(" ");
  const verb = (space < 0 ? line : line.slice(0, space)).toUpperCase();
  const argument = space < 0 ? "" : line.slice(space + 1).trim();
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(line)) {
    throw new CommandError(500, "5.5.2", "Control characters in a command");
  }
  switch (verb) {
    case "EHLO":
    case "HELO":
    case "LHLO":
      return { verb, domain: clientName(verb, argument) };
    case "MAIL":
      return mail(argument, options);
    case "RCPT":
      return rcpt(argument, options);
    case "DATA":
    case "RSET":
    case "QUIT":
    case "STARTTLS":
      if (argument !== "") throw new CommandError(501, "5.5.4", `${verb} takes no parameters`);
      return { verb };
    case "BDAT":
      return bdat(argument);
    case "AUTH":
      return auth(argument);
    case "NOOP":
    case "HELP":
      return argument === "" ? { verb } : { verb, argument };
    case "VRFY":
    case "EXPN":
      if (argument === "") throw new CommandError(501, "5.5.4", `Syntax: ${verb} <name>`);
      return { verb, argument };
    default:
      throw new CommandError(500, "5.5.2", "Command not recognised");
  }
}

/**
 * The command as a line, without its CRLF.
 * @throws {AddressError} for a path that would not be read as one.
 * @throws {RangeError} when a part has CR, LF or NUL in it, or cannot be encoded.
 */
export function encodeCommand(command: Command): string {
  const line = encode(command);
  if (/[\r\n\0]/.test(line)) throw new RangeError(`${command.verb} has CR, LF or NUL in a part`);
  return line;
}

function encode(command: Command): string {
  switch (command.verb) {
    case "EHLO":
    case "HELO":
    case "LHLO":
      return `${command.verb} ${command.domain}`;
    case "MAIL":
      return `MAIL FROM:<${safePath(command.reversePath)}>${encodeMailParameters(command.parameters)}`;
    case "RCPT":
      return `RCPT TO:<${safePath(command.forwardPath)}>${encodeRcptParameters(command.parameters)}`;
    case "BDAT":
      return `BDAT ${command.size}${command.last ? " LAST" : ""}`;
    case "AUTH": {
      const { mechanism, initialResponse } = command;
      return `AUTH ${mechanism}${initialResponse === undefined ? "" : ` ${initialResponse || "="}`}`;
    }
    case "NOOP":
    case "HELP":
    case "VRFY":
    case "EXPN":
      return command.argument === undefined ? command.verb : `${command.verb} ${command.argument}`;
    default:
      return command.verb;
  }
}

/** A path with a space or an angle bracket could smuggle in parameters, unless these are quoted. */
function safePath(address: string): string {
  if (/[ <>"\\\x00-\x1f\x7f]/.test(address)) return formatMailbox(parseMailbox(address, { utf8: true }));
  return address;
}

function clientName(verb: string, text: string): string {
  // Real clients call themselves `my_host` and `192.0.2.1`: more is let in than RFC 5321 §4.1.1.1 allows, but
  // nothing that could break a Received field.
  if (text.length > 255 || !/^[A-Za-z0-9._:\-\[\]]+$/.test(text)) {
    throw new CommandError(501, "5.5.4", `Syntax: ${verb} <domain or address literal>`);
  }
  return text;
}

function mail(argument: string, { utf8 }: CommandOptions): Command {
  const { path, rest } = splitPath(argument, "FROM:", "5.1.7");
  const parameters = parseMailParameters(rest);
  const mailbox = checkPath(
    path,
    "5.1.7",
    () => parseReversePath(path, { utf8: utf8 || parameters.smtpUtf8 || false }),
  );
  return { verb: "MAIL", reversePath: mailbox ? formatMailbox(mailbox) : "", parameters };
}

function rcpt(argument: string, { utf8 = false }: CommandOptions): Command {
  const { path, rest } = splitPath(argument, "TO:", "5.1.3");
  const mailbox = checkPath(path, "5.1.3", () => parseForwardPath(path, { utf8 }));
  return { verb: "RCPT", forwardPath: formatMailbox(mailbox), parameters: parseRcptParameters(rest) };
}

/** Splits `FROM:<path> parameters`. Spaces after the colon, a common fault of clients, are let pass. */
function splitPath(
  argument: string,
  prefix: "FROM:" | "TO:",
  status: string,
): { path: string; rest: string } {
  if (argument.slice(0, prefix.length).toUpperCase() !== prefix) {
    throw new CommandError(
      501,
      "5.5.4",
      `Syntax: ${prefix === "FROM:" ? "MAIL" : "RCPT"} ${prefix}<address>`,
    );
  }
  const text = argument.slice(prefix.length).trimStart();
  const end = pathEnd(text);
  if (end < 0) throw new CommandError(501, status, `Expected an address in angle brackets after ${prefix}`);
  const rest = text.slice(end);
  if (rest !== "" && !rest.startsWith(" ")) {
    throw new CommandError(501, "5.5.4", "Expected a space between the address and its parameters");
  }
  return { path: text.slice(0, end), rest: rest.trim() };
}

/** Offset behind the `>` that closes the path; one inside a quoted local part does not. -1 where there is none. */
function pathEnd(text: string): number {
  if (!text.startsWith("<")) return -1;
  const close = text.indexOf(">");
  if (close < 0 || text.lastIndexOf('"', close) < 0) return close < 0 ? -1 : close + 1;
  let quoted = false;
  for (let i = 1; i < text.length; i++) {
    const char = text[i]!;
    if (quoted && char === "\\") i++;
    else if (char === '"') quoted = !quoted;
    else if (char === ">" && !quoted) return i + 1;
  }
  return -1;
}

function checkPath<T>(path: string, status: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    // RFC 6531 §3.5 has a reply of its own for an address that only lacks SMTPUTF8.
    if (/[^\x00-\x7f]/.test(path) && error.message.includes("SMTPUTF8")) {
      throw new CommandError(553, "5.6.7", "Address has characters beyond ASCII, which needs SMTPUTF8");
    }
    throw new CommandError(501, status, `Bad address: ${error.message}`);
  }
}

function bdat(argument: string): Command {
  const match = /^(\d{1,15})(?: +(LAST))?$/i.exec(argument);
  if (!match) throw new CommandError(501, "5.5.4", "Syntax: BDAT <size> [LAST]");
  return { verb: "BDAT", size: Number(match[1]), last: match[2] !== undefined };
}

function auth(argument: string): Command {
  const match = /^([A-Za-z0-9_-]{1,20})(?: +(=|[A-Za-z0-9+/]+={0,2}))?$/.exec(argument);
  if (!match) throw new CommandError(501, "5.5.4", "Syntax: AUTH <mechanism> [initial response in base64]");
  const mechanism = match[1]!.toUpperCase();
  if (match[2] === undefined) return { verb: "AUTH", mechanism };
  return { verb: "AUTH", mechanism, initialResponse: match[2] === "=" ? "" : match[2] };
}
