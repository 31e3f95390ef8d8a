/** SCRAM-SHA-256 arithmetic (RFC 5802 §3), for both ends. */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** What a server keeps of a password: enough to check it, not enough to log in elsewhere. */
export interface ScramVerifier {
  readonly salt: Uint8Array;
  readonly iterations: number;
  readonly storedKey: Uint8Array;
  readonly serverKey: Uint8Array;
}

/** Iterations for a new verifier; RFC 7677 §4 wants at least 4,096. */
export const SCRAM_ITERATIONS = 10_000;

/** Derives a verifier from a password. */
export async function scramVerifier(
  password: string,
  salt: Uint8Array,
  iterations: number = SCRAM_ITERATIONS,
): Promise<ScramVerifier> {
  const salted = await saltedPassword(password, salt, iterations);
  return {
    salt,
    iterations,
    storedKey: sha256(hmac(salted, "Client Key")),
    serverKey: hmac(salted, "Server Key"),
  };
}

/** Checks a password against a verifier, in a time that does not depend on the verifier. */
export async function checkPassword(password: string, verifier: ScramVerifier): Promise<boolean> {
  const { storedKey } = await scramVerifier(password, verifier.salt, verifier.iterations);
  return timingSafeEqual(storedKey, verifier.storedKey);
}

/** Checks a client's proof; gives the server's signature to answer with, undefined when the proof is wrong. */
export function checkProof(
  verifier: ScramVerifier,
  authMessage: string,
  proof: Uint8Array,
): Uint8Array | undefined {
  if (proof.length !== 32) return undefined;
  const clientKey = xor(proof, hmac(verifier.storedKey, authMessage));
  if (!timingSafeEqual(sha256(clientKey), verifier.storedKey)) return undefined;
  return hmac(verifier.serverKey, authMessage);
}

/** A client's proof, and the signature it must get back. */
export async function clientProof(
  password: string,
  salt: Uint8Array,
  iterations: number,
  authMessage: string,
): Promise<{ proof: Uint8Array; serverSignature: Uint8Array }> {
  const salted = await saltedPassword(password, salt, iterations);
  const clientKey = hmac(salted, "Client Key");
  return {
    proof: xor(clientKey, hmac(sha256(clientKey), authMessage)),
    serverSignature: hmac(hmac(salted, "Server Key"), authMessage),
  };
}

async function saltedPassword(password: string, salt: Uint8Array, iterations: number): Promise<Uint8Array> {
  // NFKC is the part of SASLprep (RFC 4013) that changes what people type.
  const bytes = new TextEncoder().encode(password.normalize("NFKC"));
  const key = await crypto.subtle.importKey("raw", bytes, "PBKDF2", false, ["deriveBits"]);
  const parameters = { name: "PBKDF2", hash: "SHA-256", salt: new Uint8Array(salt), iterations };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, key, 256));
}

function hmac(key: Uint8Array, text: string): Uint8Array {
  return createHmac("sha256", key).update(text).digest();
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, i) => byte ^ b[i]!);
}
