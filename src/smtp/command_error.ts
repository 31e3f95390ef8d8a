/** The refusal of a command that cannot be read. */
import { type Reply, reply } from "./reply.ts";

/** Thrown for a command that is no command; carries the reply to send. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly reply: Reply;

  /** @param status enhanced status `x.y.z`. */
  constructor(code: number, status: string, text: string) {
    super(text);
    this.reply = reply(code, status, text);
  }
}
