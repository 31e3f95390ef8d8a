/** Parameters of MAIL. */
import { formatMailbox, parseMailbox } from "./address.ts";
import { CommandError } from "./command_error.ts";
import { badParameter, splitParameters, unknownParameter } from "./parameters.ts";
import { decodeXtext, encodeXtext } from "./xtext.ts";

export interface MailParameters {
  /** Declared bytes of content (RFC 1870). */
  readonly size?: number;
  /** RFC 6152, 3030. */
  readonly body?: "7BIT" | "8BITMIME" | "BINARYMIME";
  /** RFC 6531. */
  readonly smtpUtf8?: true;
  /** RFC 3461 §4.3. */
  readonly ret?: "FULL" | "HDRS";
  /** RFC 3461 §4.4, decoded from xtext: printable ASCII, at most 100 characters. */
  readonly envid?: string;
  /** RFC 4954 §5, decoded from xtext: a bare address, or `<>`. */
  readonly auth?: string;
  /** RFC 8689. */
  readonly requireTls?: true;
}

/** @throws {CommandError} */
export function parseMailParameters(text: string): MailParameters {
  const parsed: { -readonly [K in keyof MailParameters]: MailParameters[K] } = {};
  for (const [keyword, value = ""] of splitParameters(text)) {
    switch (keyword) {
      case "SIZE":
        if (!/^\d{1,20}$/.test(value)) throw badParameter("SIZE", "<bytes>");
        parsed.size = Number(value);
        break;
      case "BODY":
        parsed.body = oneOf("BODY", value, ["7BIT", "8BITMIME", "BINARYMIME"]);
        break;
      case "RET":
        parsed.ret = oneOf("RET", value, ["FULL", "HDRS"]);
        break;
      case "ENVID":
        parsed.envid = envid(value);
        break;
      case "AUTH":
        parsed.auth = authIdentity(value);
        break;
      case "SMTPUTF8":
        parsed.smtpUtf8 = flag(keyword, value);
        break;
      case "REQUIRETLS":
        parsed.requireTls = flag(keyword, value);
        break;
      default:
        throw unknownParameter("MAIL", keyword);
    }
  }
  return parsed;
}

/** As text, with a space before each. @throws {RangeError} for what xtext cannot carry. */
export function encodeMailParameters(parameters: MailParameters): string {
  const { size, body, smtpUtf8, ret, envid, auth, requireTls } = parameters;
  let text = "";
  if (size !== undefined) text += ` SIZE=${size}`;
  if (body) text += ` BODY=${body}`;
  if (smtpUtf8) text += " SMTPUTF8";
  if (ret) text += ` RET=${ret}`;
  if (envid !== undefined) text += ` ENVID=${encodeXtext(envid)}`;
  // RFC 4954 §5: "<>" is the one value that is not an encoded mailbox.
  if (auth !== undefined) text += ` AUTH=${auth === "<>" ? auth : encodeXtext(auth)}`;
  if (requireTls) text += " REQUIRETLS";
  return text;
}

function oneOf<T extends string>(keyword: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === value.toUpperCase());
  if (!found) throw badParameter(keyword, allowed.join("|"));
  return found;
}

function flag(keyword: string, value: string): true {
  if (value !== "") throw new CommandError(501, "5.5.4", `${keyword} takes no value`);
  return true;
}

function envid(value: string): string {
  const decoded = decodeXtext(value);
  if (value.length > 100 || !decoded || !/^[\x20-\x7e]+$/.test(decoded)) {
    throw badParameter("ENVID", "<xtext of printable characters, at most 100>");
  }
  return decoded;
}

function authIdentity(value: string): string {
  if (value === "<>") return value;
  try {
    return formatMailbox(parseMailbox(decodeXtext(value) ?? ""));
  } catch {
    throw badParameter("AUTH", "<xtext of an address>|<>");
  }
}
