// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** Parameters of RCPT (RFC 3461 §4.1 and §4.2, RFC 6533 §3). */
import { badParameter, splitParameters, unknownParameter } from "./parameters.ts";
import { decodeUtf8Xtext, decodeXtext, encodeUtf8Xtext, encodeXtext } from "./xtext.ts";

export interface RcptParameters {
  readonly notify?: NotifyParameter;
  /** Decoded: `rfc822;user@example.com`. */
  readonly orcpt?: string;
}

/** `never` alone, or any of the others. */
export interface NotifyParameter {
  readonly never?: true;
  readonly success?: true;
  readonly failure?: true;
  readonly delay?: true;
}

const NOTIFY_WORDS = ["never", "success", "failure", "delay"] as const;
/** RFC 3461 §4.2. */
const MAX_ORCPT = 500;

/** @throws {CommandError} */
export function parseRcptParameters(text: string): RcptParameters {
  const parsed: { -readonly [K in keyof RcptParameters]: RcptParameters[K] } = {};
  for (const [keyword, value = ""] of splitParameters(text)) {
    if (keyword === "NOTIFY") parsed.notify = notify(value);
    else if (keyword === "ORCPT") parsed.orcpt = orcpt(value);
    else throw unknownParameter("RCPT", keyword);
  }
  return parsed;
}

/** As text, with a space before each. @throws {RangeError} for what xtext cannot carry. */
export function encodeRcptParameters({ notify, orcpt }: RcptParameters): string {
  let text = "";
  if (notify) {
    const words = NOTIFY_WORDS.filter((word) => notify[word]).map((word) => word.toUpperCase());
    if (words.length > 0) text += ` NOTIFY=${words.join(",")}`;
  }
  if (orcpt !== undefined) {
    const [type, address] = splitType(orcpt);
    const encode = type.toLowerCase() === "utf-8" ? encodeUtf8Xtext : encodeXtext;
    text += ` ORCPT=${type};${encode(address)}`;
  }
  return text;
}

function notify(value: string): NotifyParameter {
  const found: { -readonly [K in keyof NotifyParameter]: NotifyParameter[K] } = {};
  for (const word of value.toLowerCase().split(",")) {
    const name = NOTIFY_WORDS.find((each) => each === word);
    if (!name) throw badParameter("NOTIFY", "NEVER, or a list of SUCCESS, FAILURE, DELAY");
    found[name] = true;
  }
  if (found.never && Object.keys(found).length > 1) throw badParameter("NOTIFY", "NEVER alone");
  return found;
}

function orcpt(value: string): string {
  const [type, encoded] = splitType(value);
  const decoded = type.toLowerCase() === "utf-8" ? decodeUtf8Xtext(encoded) : decodeXtext(encoded);
  // Control characters would break out of the report this ends up in.
  const clean = decoded && !/[\x00-\x1f\x7f-\x9f]/.test(decoded);
  if (value.length > MAX_ORCPT || !/^[A-Za-z0-9-]+$/.test(type) || !clean) {
    throw badParameter("ORCPT", "<address type>;<xtext>");
  }
  return `${type};${decoded}`;
}

function splitType(text: string): [type: string, address: string] {
  const semicolon = text.indexOf(";");
  return semicolon < 0 ? ["", text] : [text.slice(0, semicolon), text.slice(semicolon + 1)];
}
