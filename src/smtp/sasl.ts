/** SASL messages: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 5802, 7677). Text and bytes only; no secrets kept. */

/** Thrown for a message that is not what its mechanism says. */
export class SaslError extends Error {
  override readonly name = "SaslError";
}

/** A name and a password, with the identity to act as where it differs. */
export interface PlainCredentials {
  readonly authzid?: string;
  readonly authcid: string;
  readonly password: string;
}

/** Base64 of the UTF-8 of `text`. */
export function encodeBase64(text: string): string {
  return new TextEncoder().encode(text).toBase64();
}

/** Text of base64. @throws {SaslError} unless it is base64 of UTF-8. */
export function decodeBase64(base64: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.fromBase64(base64));
  } catch {
    throw new SaslError("expected base64 of UTF-8 text");
  }
}

/** PLAIN's only message. */
export function encodePlain({ authzid = "", authcid, password }: PlainCredentials): string {
  return `${authzid}\0${authcid}\0${password}`;
}

/** @throws {SaslError} */
export function decodePlain(message: string): PlainCredentials {
  const parts = message.split("\0");
  const [authzid, authcid, password] = parts;
  if (parts.length !== 3 || !authcid || !password) {
    throw new SaslError("expected authzid NUL authcid NUL password");
  }
  return { ...(authzid ? { authzid } : {}), authcid, password };
}

/** What a SCRAM client sends first. */
export interface ClientFirst {
  readonly user: string;
  readonly authzid?: string;
  readonly nonce: string;
  /** `n,,` or `y,,`, with the authzid. */
  readonly gs2Header: string;
  /** The message without its header, as it goes into the signature. */
  readonly bare: string;
}

/** @param nonce printable ASCII without commas. */
export function encodeClientFirst(user: string, nonce: string): string {
  return `n,,n=${escapeName(user)},r=${nonce}`;
}

/** @throws {SaslError} also for channel binding, which is not offered (that would be SCRAM-SHA-256-PLUS). */
export function decodeClientFirst(message: string): ClientFirst {
  const match = /^([ny],(?:a=([^,\0]+))?,)(n=([^,\0]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s.exec(message);
  if (!match) throw new SaslError("expected a SCRAM client-first message without channel binding");
  const authzid = match[2] === undefined ? undefined : unescapeName(match[2]);
  return {
    gs2Header: match[1]!,
    bare: match[3]!,
    user: unescapeName(match[4]!),
    nonce: match[5]!,
    ...(authzid === undefined ? {} : { authzid }),
  };
}

/** What a SCRAM server answers. */
export interface ServerFirst {
  /** The client's nonce with the server's behind it. */
  readonly nonce: string;
  readonly salt: Uint8Array;
  readonly iterations: number;
}

export function encodeServerFirst({ nonce, salt, iterations }: ServerFirst): string {
  return `r=${nonce},s=${salt.toBase64()},i=${iterations}`;
}

/** @throws {SaslError} also when the nonce does not begin with the client's. */
export function decodeServerFirst(message: string, clientNonce: string): ServerFirst {
  const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=(\d{1,9})(?:,.*)?$/s.exec(message);
  if (!match) throw new SaslError("expected a SCRAM server-first message");
  const [, nonce = "", salt = "", iterations] = match;
  if (!nonce.startsWith(clientNonce) || nonce.length === clientNonce.length) {
    throw new SaslError("the server's nonce does not extend the client's");
  }
  return { nonce, salt: bytes(salt), iterations: Number(iterations) };
}

/** What a SCRAM client sends last. */
export interface ClientFinal {
  /** The `c=` part, decoded: must be the header sent first. */
  readonly gs2Header: string;
  readonly nonce: string;
  readonly proof: Uint8Array;
  /** The message up to the proof, as it goes into the signature. */
  readonly withoutProof: string;
}

/** The last client message up to its proof. */
export function encodeClientFinalWithoutProof(nonce: string, gs2Header = "n,,"): string {
  return `c=${encodeBase64(gs2Header)},r=${nonce}`;
}

/** @throws {SaslError} */
export function decodeClientFinal(message: string): ClientFinal {
  const match = /^(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?),p=([A-Za-z0-9+/=]+)$/s.exec(
    message,
  );
  if (!match) throw new SaslError("expected a SCRAM client-final message");
  return {
    withoutProof: match[1]!,
    gs2Header: decodeBase64(match[2]!),
    nonce: match[3]!,
    proof: bytes(match[4]!),
  };
}

/** Text that the two signatures of an exchange are made over. */
export function authMessage(
  clientFirstBare: string,
  serverFirst: string,
  clientFinalWithoutProof: string,
): string {
  return `${clientFirstBare},${serverFirst},${clientFinalWithoutProof}`;
}

function bytes(base64: string): Uint8Array {
  try {
    return Uint8Array.fromBase64(base64);
  } catch {
    throw new SaslError("expected base64");
  }
}

function escapeName(name: string): string {
  return name.replaceAll("=", "=3D").replaceAll(",", "=2C");
}

function unescapeName(text: string): string {
  if (/=(?!2C|3D)/.test(text)) throw new SaslError("expected =2C or =3D after = in a SCRAM name");
  return text.replaceAll("=2C", ",").replaceAll("=3D", "=");
}
