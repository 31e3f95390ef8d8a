/** What the commands need from outside their room; the composition root hands it in. */
import type { Environment } from "../config/read_config.ts";

/** One recipient's answer, or why there is none. */
export interface RecipientAnswer {
  readonly recipient: string;
  readonly accepted: boolean;
  /** The server's reply, or our own words, as one line. */
  readonly reply: string;
}

/** How `epoxi send` reaches a server. */
export interface SubmitTarget {
  readonly host: string;
  readonly port: number;
  /** Name for EHLO. */
  readonly hostname: string;
  readonly tls: "never" | "opportunistic" | "require" | "implicit";
  readonly auth?: { readonly user: string; readonly password: string };
  /** For every stage, in milliseconds. */
  readonly timeout: number;
  /** Hears every line of the dialog, `C` from us and `S` from the server; credentials are masked. */
  readonly transcript?: (side: "C" | "S", line: string) => void;
}

/** What is sent in one transaction. */
export interface SubmitMail {
  /** "" is the null reverse-path. */
  readonly reversePath: string;
  readonly recipients: readonly string[];
  /** With CRLF line ends, without dot-stuffing. */
  readonly content: Uint8Array;
  /** The content has bytes over 127. */
  readonly eightBit: boolean;
  /** Header section or an address has more than ASCII in it (RFC 6531). */
  readonly smtpUtf8: boolean;
}

/** An open connection to a server. */
export interface SubmitConnection {
  /** One answer for each recipient, in order. Throws where the connection is lost. */
  send(mail: SubmitMail): Promise<readonly RecipientAnswer[]>;
  quit(): Promise<void>;
}

/** Everything the commands are given. */
export interface CliDeps {
  readonly version: string;
  readonly environment: Environment;
  /** Runs the server until it is told to stop; answers the exit code. */
  readonly serve: (mode: "serve" | "dev") => Promise<number>;
  /** Opens a connection for `epoxi send`. Throws an `Error` fit to be shown. */
  readonly connect: (target: SubmitTarget) => Promise<SubmitConnection>;
  readonly fetch: typeof fetch;
  /** Writes text to standard output and standard error as it is, line ends included. */
  readonly write: (text: string) => void;
  readonly writeError: (text: string) => void;
  /** All of standard input. */
  readonly readInput: () => Promise<Uint8Array>;
  readonly readFile: (path: string) => Promise<Uint8Array>;
  /** Aborted when the user asks to stop (Ctrl-C): made on demand, since listening changes what Ctrl-C does. */
  readonly interrupted: () => AbortSignal;
}

/** A command that did not do what was asked, with a message fit to be shown. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
}

/** Arguments that contradict each other or lack something, with a message fit to be shown. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Exit codes of every command. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;
