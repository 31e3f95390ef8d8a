import assert from "node:assert/strict";
import {
  authMessage,
  decodeBase64,
  decodeClientFinal,
  decodeClientFirst,
  decodePlain,
  decodeServerFirst,
  encodeBase64,
  encodeClientFinalWithoutProof,
  encodeClientFirst,
  encodePlain,
  encodeServerFirst,
  SaslError,
} from "../../src/smtp/sasl.ts";
import { checkPassword, checkProof, clientProof, scramVerifier } from "../../src/smtp/scram.ts";

// RFC 7677 §3.
const NONCE = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL =
  "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

Deno.test("SCRAM-SHA-256 gives the RFC's numbers at both ends", async () => {
  const first = decodeClientFirst(encodeClientFirst("user", NONCE));
  assert.equal(first.bare, `n=user,r=${NONCE}`);
  const server = decodeServerFirst(SERVER_FIRST, NONCE);
  assert.equal(encodeServerFirst(server), SERVER_FIRST);
  const withoutProof = encodeClientFinalWithoutProof(server.nonce);
  const message = authMessage(first.bare, SERVER_FIRST, withoutProof);
  const { proof, serverSignature } = await clientProof("pencil", server.salt, server.iterations, message);
  assert.equal(`${withoutProof},p=${proof.toBase64()}`, CLIENT_FINAL);
  assert.equal(serverSignature.toBase64(), SERVER_SIGNATURE);
  const verifier = await scramVerifier("pencil", server.salt, server.iterations);
  const final = decodeClientFinal(CLIENT_FINAL);
  assert.equal(final.gs2Header, "n,,");
  assert.equal(checkProof(verifier, message, final.proof)?.toBase64(), SERVER_SIGNATURE);
  assert.equal(checkProof(verifier, message + "x", final.proof), undefined);
  assert.equal(checkProof(verifier, message, new Uint8Array(3)), undefined);
  assert.equal(await checkPassword("pencil", verifier), true);
  assert.equal(await checkPassword("Pencil", verifier), false);
});

Deno.test("SCRAM names with comma and equals sign", () => {
  assert.equal(decodeClientFirst(encodeClientFirst("a=b,c", "x")).user, "a=b,c");
  assert.equal(decodeClientFirst("y,a=other,n=u,r=x").authzid, "other");
});

Deno.test("malformed SASL messages are SaslErrors", () => {
  for (const message of ["", "p=tls-unique,,n=u,r=x", "n,,n=,r=x", "n,,n=a=2D,r=x", "n,,r=x"]) {
    assert.throws(() => decodeClientFirst(message), SaslError, message);
  }
  for (const message of ["", "r=x,s=AA==,i=1", "r=abc,s=AA==,i=1", "r=abcd,s=!,i=1", "e=other-error"]) {
    assert.throws(() => decodeServerFirst(message, "abc"), SaslError, message);
  }
  for (const message of ["", "c=biws,r=x", "c=biws,r=x,p=!"]) {
    assert.throws(() => decodeClientFinal(message), SaslError, message);
  }
  for (const message of ["", "a", "\0a", "\0a\0", "\0\0b", "a\0b\0c\0d"]) {
    assert.throws(() => decodePlain(message), SaslError, JSON.stringify(message));
  }
  assert.throws(() => decodeBase64("!"), SaslError);
  assert.throws(() => decodeBase64("/w=="), SaslError);
});

Deno.test("PLAIN both ways", () => {
  const credentials = { authzid: "z", authcid: "jürgen", password: "pa ss" };
  assert.deepEqual(decodePlain(decodeBase64(encodeBase64(encodePlain(credentials)))), credentials);
  assert.deepEqual(decodePlain("\0u\0p"), { authcid: "u", password: "p" });
});
