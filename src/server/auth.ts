/** AUTH: SASL exchanges against stored SCRAM verifiers (RFC 4954, 4616, 5802, 7677). */
import {
  authMessage,
  type ClientFirst,
  decodeBase64,
  decodeClientFinal,
  decodeClientFirst,
  decodePlain,
  encodeBase64,
  encodeServerFirst,
  SaslError,
} from "../smtp/sasl.ts";
import {
  checkPassword,
  checkProof,
  SCRAM_ITERATIONS,
  type ScramVerifier,
  scramVerifier,
} from "../smtp/scram.ts";

/** What an exchange says to one response of the client. */
export type AuthTurn =
  /** Text for `334`, in base64. */
  | { readonly challenge: string }
  | { readonly user: string }
  /** `malformed`: the response was none of this mechanism. `claimed` is the name that was given. */
  | { readonly failed: "credentials" | "malformed"; readonly claimed?: string };

/** One AUTH command: called with each response in base64, first with the initial one, if any. */
export type AuthExchange = (response: string | undefined) => Promise<AuthTurn>;

/** Checks users. */
export interface Authenticator {
  /** Empty without users. */
  readonly mechanisms: readonly string[];
  /** Starts an exchange of one of `mechanisms`. */
  start(mechanism: string): AuthExchange;
}

/** A user as configured. */
export interface User {
  readonly user: string;
  readonly password: string;
}

const MECHANISMS = ["SCRAM-SHA-256", "PLAIN", "LOGIN"] as const;

/**
 * An authenticator over verifiers made of the users' passwords; the passwords are not kept.
 * @param random gives that many random bytes.
 */
export async function createAuthenticator(
  users: readonly User[],
  random: (size: number) => Uint8Array = (size) => crypto.getRandomValues(new Uint8Array(size)),
): Promise<Authenticator> {
  const verifiers = new Map<string, ScramVerifier>();
  for (const { user, password } of users) verifiers.set(user, await scramVerifier(password, random(16)));
  // An unknown user costs the same work, and sees a salt, as a known one.
  const nobody = await scramVerifier(random(16).toHex(), random(16));
  const decoys = random(32);
  const directory: Directory = {
    async check(user, password) {
      const right = await checkPassword(password, verifiers.get(user) ?? nobody);
      return right && verifiers.has(user);
    },
    async verifier(user) {
      return verifiers.get(user) ??
        { ...nobody, salt: await decoySalt(decoys, user), iterations: SCRAM_ITERATIONS };
    },
  };
  return {
    mechanisms: verifiers.size === 0 ? [] : MECHANISMS,
    start(mechanism) {
      const exchange = mechanism === "PLAIN"
        ? plain(directory)
        : mechanism === "LOGIN"
        ? login(directory)
        : scram(directory, () => random(18).toBase64());
      return async (response) => {
        try {
          return await exchange(response);
        } catch (error) {
          if (error instanceof SaslError) return { failed: "malformed" };
          throw error;
        }
      };
    },
  };
}

interface Directory {
  check(user: string, password: string): Promise<boolean>;
  /** A verifier, for an unknown user one that nothing fits. */
  verifier(user: string): Promise<ScramVerifier>;
}

function plain(directory: Directory): AuthExchange {
  return async (response) => {
    if (response === undefined) return { challenge: "" };
    const { authzid, authcid, password } = decodePlain(decodeBase64(response));
    const right = await directory.check(authcid, password);
    // Nobody may act as somebody else here.
    const own = authzid === undefined || authzid === authcid;
    return right && own ? { user: authcid } : { failed: "credentials", claimed: authcid };
  };
}

function login(directory: Directory): AuthExchange {
  let user: string | undefined;
  return async (response) => {
    if (response === undefined) return { challenge: encodeBase64("Username:") };
    if (user === undefined) {
      user = decodeBase64(response);
      return { challenge: encodeBase64("Password:") };
    }
    const right = await directory.check(user, decodeBase64(response));
    return right ? { user } : { failed: "credentials", claimed: user };
  };
}

function scram(directory: Directory, nonce: () => string): AuthExchange {
  let first: ClientFirst | undefined;
  let serverFirst = "";
  let fullNonce = "";
  let verifier: ScramVerifier | undefined;
  let proven = false;
  return async (response) => {
    if (proven) return { user: first!.user };
    if (response === undefined) return { challenge: "" };
    const message = decodeBase64(response);
    if (first === undefined || verifier === undefined) {
      first = decodeClientFirst(message);
      verifier = await directory.verifier(first.user);
      fullNonce = first.nonce + nonce();
      serverFirst = encodeServerFirst({
        nonce: fullNonce,
        salt: verifier.salt,
        iterations: verifier.iterations,
      });
      return { challenge: encodeBase64(serverFirst) };
    }
    const final = decodeClientFinal(message);
    const signed = authMessage(first.bare, serverFirst, final.withoutProof);
    const signature = checkProof(verifier, signed, final.proof);
    const bound = final.nonce === fullNonce && final.gs2Header === first.gs2Header;
    const own = first.authzid === undefined || first.authzid === first.user;
    if (!signature || !bound || !own) return { failed: "credentials", claimed: first.user };
    proven = true;
    return { challenge: encodeBase64(`v=${signature.toBase64()}`) };
  };
}

/** The same salt each time for a name that is no user's, so that asking twice tells nothing. */
async function decoySalt(secret: Uint8Array, user: string): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey(
    "raw",
    new Uint8Array(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(user));
  return new Uint8Array(mac).slice(0, 16);
}
