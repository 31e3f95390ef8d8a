// deno-lint-ignore-file no-control-regex -- control characters are what is looked for
/** xtext (RFC 3461 §4) and utf-8-addr-xtext (RFC 6533 §3). */

/** Encodes text as xtext. @throws {RangeError} for characters beyond ASCII. */
export function encodeXtext(text: string): string {
  return text.replace(/[^\x21-\x2a\x2c-\x3c\x3e-\x7e]/g, (char) => {
    const code = char.charCodeAt(0);
    if (code > 0x7f) throw new RangeError(`xtext cannot carry U+${code.toString(16)}`);
    return "+" + code.toString(16).toUpperCase().padStart(2, "0");
  });
}

/** Decodes xtext; undefined when `text` is none. */
export function decodeXtext(text: string): string | undefined {
  if (!/^(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*$/.test(text)) return undefined;
  return text.replace(/\+([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

/** Encodes an address as utf-8-addr-xtext: ASCII only, other characters as `\x{HEX}`. */
export function encodeUtf8Xtext(text: string): string {
  let encoded = "";
  for (const char of text) {
    const code = char.codePointAt(0)!;
    const plain = code > 0x20 && code < 0x7f && !"+=\\".includes(char);
    encoded += plain ? char : `\\x{${code.toString(16).toUpperCase().padStart(2, "0")}}`;
  }
  return encoded;
}

/** Decodes utf-8-addr-xtext and utf-8-addr-unitext; undefined when `text` is neither. */
export function decodeUtf8Xtext(text: string): string | undefined {
  if (!/^(?:[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]|[^\x00-\x7f]|\\x\{[0-9A-F]{2,6}\})*$/.test(text)) {
    return undefined;
  }
  try {
    return text.replace(/\\x\{([0-9A-F]+)\}/g, (_, hex: string) => String.fromCodePoint(parseInt(hex, 16)));
  } catch {
    return undefined;
  }
}
