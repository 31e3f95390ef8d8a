/**
 * Local delivery into Maildirs: written in `tmp`, synced, moved to `new`, the folder synced (qmail's maildir(5)).
 * Content is kept byte for byte, with its CRLF line ends: IMAP servers read both, and signatures stay true.
 */
import { dirname, join } from "node:path";
import type { Clock } from "../platform/clock.ts";
import type { Claim, Outcome } from "../queue/model.ts";

/** Mailboxes whose folders are remembered as made. */
const MAX_MADE = 10_000;

export interface MaildirOptions {
  /** Folder that holds `<domain>/<user>`. */
  readonly root: string;
  readonly hostname: string;
  /** `user@domain`, lower case; empty: every user exists. */
  readonly mailboxes: readonly string[];
  readonly clock: Clock;
  readonly pid: number;
  readonly random: () => number;
}

/** Delivers to local mailboxes. */
export class Maildir {
  readonly #options: MaildirOptions;
  readonly #mailboxes: ReadonlySet<string>;
  /** Folders known to be on disk, with their names in the folders above. */
  readonly #made = new Set<string>();
  #count = 0;

  constructor(options: MaildirOptions) {
    this.#options = options;
    this.#mailboxes = new Set(options.mailboxes.map((address) => address.toLowerCase()));
  }

  /** One outcome for each recipient; never throws. */
  async deliver(claim: Claim): Promise<Outcome[]> {
    const outcomes: Outcome[] = [];
    for (const { address } of claim.envelope.recipients) outcomes.push(await this.#deliverTo(address, claim));
    return outcomes;
  }

  async #deliverTo(address: string, claim: Claim): Promise<Outcome> {
    const { user, domain } = mailboxOf(address);
    const known = this.#mailboxes.size === 0 || user === "postmaster" ||
      this.#mailboxes.has(`${user}@${domain}`);
    if (!known) return local("failed", "5.1.1", `no mailbox ${address}`);
    try {
      const folder = join(this.#options.root, safeName(domain), safeName(user));
      await this.#write(folder, address, claim);
      return { ...local("delivered", "2.0.0", `delivered to the mailbox of ${user}@${domain}`), final: true };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return local("deferred", statusOf(error), `mailbox of ${address} cannot be written: ${reason}`);
    }
  }

  async #write(folder: string, address: string, claim: Claim): Promise<void> {
    await this.#make(folder);
    const { hostname, clock, pid, random } = this.#options;
    const now = clock.now();
    const unique = `${Math.floor(now / 1000)}.M${now % 1000 * 1000}P${pid}Q${++this.#count}R${
      Math.floor(random() * 2 ** 32).toString(16)
    }.${hostname.replace(/[/:]/g, "_")}`;
    const draft = join(folder, "tmp", unique);
    try {
      const file = await Deno.open(draft, { write: true, createNew: true, mode: 0o600 });
      try {
        const head = `Return-Path: <${claim.message.reversePath}>\r\nDelivered-To: ${address}\r\n`;
        await writeAll(file, new TextEncoder().encode(head));
        for await (const chunk of claim.content()) await writeAll(file, chunk);
        await file.sync();
      } finally {
        file.close();
      }
      await Deno.rename(draft, join(folder, "new", unique));
    } catch (error) {
      await Deno.remove(draft).catch(() => {});
      // Somebody may have taken the folder away: look again next time.
      this.#made.delete(folder);
      throw error;
    }
    await syncFolder(join(folder, "new"));
  }

  /** Makes a mailbox; a new folder outlasts a crash only when the one above it is synced as well. */
  async #make(folder: string): Promise<void> {
    if (this.#made.has(folder)) return;
    for (const name of ["tmp", "new", "cur"]) {
      await Deno.mkdir(join(folder, name), { recursive: true, mode: 0o700 });
    }
    const { root } = this.#options;
    for (const above of [folder, dirname(folder), root, dirname(root)]) await syncFolder(above);
    if (this.#made.size >= MAX_MADE) this.#made.clear();
    this.#made.add(folder);
  }
}

async function syncFolder(path: string): Promise<void> {
  const directory = await Deno.open(path, { read: true });
  try {
    await directory.sync();
  } finally {
    directory.close();
  }
}

/** RFC 3463 §3.3–3.4: mailbox full, system full, or just "mail system". */
function statusOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "EDQUOT" ? "4.2.2" : code === "ENOSPC" ? "4.3.1" : "4.3.0";
}

/** User and domain of an address, in lower case; a quoted local part without its quotes. */
function mailboxOf(address: string): { user: string; domain: string } {
  const at = address.lastIndexOf("@");
  const local = at < 0 ? address : address.slice(0, at);
  const user = local.startsWith('"') ? local.slice(1, -1).replace(/\\(.)/g, "$1") : local;
  return { user: user.toLowerCase(), domain: address.slice(at + 1).toLowerCase() };
}

/** A name that is one folder and nothing else, whatever the address says. */
export function safeName(text: string): string {
  const encoded = [...new TextEncoder().encode(text)].map((byte) => {
    const char = String.fromCharCode(byte);
    return /[a-z0-9._+-]/.test(char) ? char : "%" + byte.toString(16).toUpperCase().padStart(2, "0");
  }).join("");
  if (encoded === "") return "%";
  return encoded.startsWith(".") ? "%2E" + encoded.slice(1) : encoded;
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await file.write(bytes.subarray(sent));
}

function local(kind: Outcome["kind"], status: string, reply: string): Outcome {
  return {
    kind,
    scope: "recipient",
    status,
    reply,
    fromRemote: false,
    ...(kind === "deferred" ? { reason: "local fault" as const } : {}),
  };
}
