/** The lines of one AUTH command (RFC 4954 §4). */
import type { ScannedLine } from "../smtp/line_scanner.ts";
import { type Reply, reply } from "../smtp/reply.ts";
import type { AuthExchange } from "./auth.ts";

/** How AUTH ended. `failed` is set where credentials were wrong, not where the dialog was. */
export type AuthResult =
  | { readonly user: string }
  | { readonly answer: Reply; readonly failed?: { readonly user: string | undefined } };

const CANCELLED = reply(501, "5.7.0", "Authentication cancelled");
const MALFORMED = reply(501, "5.5.2", "Cannot decode the response");
const WRONG = reply(535, "5.7.8", "Authentication credentials invalid");

/**
 * Runs an exchange. `ask` sends a challenge and gives the client's line; undefined from it means that the client is
 * gone, and undefined is returned.
 */
export async function authenticate(
  exchange: AuthExchange,
  initialResponse: string | undefined,
  ask: (challenge: string) => Promise<ScannedLine | undefined>,
): Promise<AuthResult | undefined> {
  let response = initialResponse;
  for (;;) {
    const turn = await exchange(response);
    if ("failed" in turn) {
      return turn.failed === "malformed"
        ? { answer: MALFORMED }
        : { answer: WRONG, failed: { user: turn.claimed } };
    }
    if ("user" in turn) return turn;
    const line = await ask(turn.challenge);
    if (!line) return undefined;
    if (line.fault) return { answer: MALFORMED };
    if (line.text === "*") return { answer: CANCELLED };
    response = line.text;
  }
}
