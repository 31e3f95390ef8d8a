/** One table of commands: it decides about order, and feeds EHLO, HELP and the limits. */
import type { Command } from "../smtp/command.ts";
import type { Rules } from "./rules.ts";
import type { Session } from "./session.ts";

/** What holds for one command. */
export interface VerbRule {
  /** For HELP. */
  readonly syntax: string;
  /** What must have come before it. */
  readonly needs?: "greeting" | "no transaction" | "transaction" | "recipients";
  /** Refused on a submission port before AUTH (and so before TLS, where AUTH needs that). */
  readonly mail?: true;
  /** A client must read the reply before it sends more (RFC 2920 §3.1, 3207, 4954). */
  readonly endsGroup?: true;
  /** Brings no mail: too many in a row are abuse. */
  readonly idle?: true;
  /** Not answered here at all (`502`), for instance STARTTLS without a certificate. */
  readonly offered?: (session: Session, rules: Rules) => boolean;
  /** EHLO keywords it stands for. */
  readonly keywords?: (session: Session, rules: Rules) => readonly string[];
}

/** Idle commands in a row before each counts as an error. */
export const MAX_IDLE = 100;

export const VERBS: Readonly<Record<Command["verb"], VerbRule>> = {
  EHLO: {
    syntax: "EHLO <domain or address literal>",
    endsGroup: true,
    idle: true,
    keywords: () => ["PIPELINING", "ENHANCEDSTATUSCODES"],
  },
  HELO: { syntax: "HELO <domain>", endsGroup: true, idle: true },
  LHLO: { syntax: "LHLO <domain>", offered: () => false },
  STARTTLS: {
    syntax: "STARTTLS",
    needs: "no transaction",
    endsGroup: true,
    idle: true,
    offered: (session, rules) => rules.startTls && !session.tls,
    keywords: () => ["STARTTLS"],
  },
  AUTH: {
    syntax: "AUTH <mechanism> [initial response]",
    needs: "no transaction",
    endsGroup: true,
    idle: true,
    offered: (_session, rules) => rules.mechanisms.length > 0,
    keywords: (session, rules) => mayAuth(session) ? [`AUTH ${rules.mechanisms.join(" ")}`] : [],
  },
  MAIL: {
    syntax:
      "MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME|BINARYMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=id] [REQUIRETLS]",
    needs: "no transaction",
    mail: true,
    keywords: (session, rules) => [
      `SIZE ${rules.maxMessageSize}`,
      "8BITMIME",
      "SMTPUTF8",
      "DSN",
      // RFC 8689 §2: only inside TLS.
      ...(session.tls ? ["REQUIRETLS"] : []),
    ],
  },
  RCPT: {
    syntax: "RCPT TO:<address> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;address]",
    needs: "transaction",
    mail: true,
    keywords: (_session, rules) => [`LIMITS RCPTMAX=${rules.maxRecipients}`],
  },
  DATA: { syntax: "DATA", needs: "recipients", mail: true, endsGroup: true },
  BDAT: {
    syntax: "BDAT <size> [LAST]",
    needs: "recipients",
    mail: true,
    keywords: () => ["CHUNKING", "BINARYMIME"],
  },
  RSET: { syntax: "RSET", idle: true },
  NOOP: { syntax: "NOOP [anything]", endsGroup: true, idle: true },
  HELP: { syntax: "HELP [command]", endsGroup: true, idle: true },
  VRFY: { syntax: "VRFY <address>", endsGroup: true, idle: true },
  EXPN: { syntax: "EXPN <list>", endsGroup: true, idle: true, offered: () => false },
  QUIT: { syntax: "QUIT", endsGroup: true },
};

/** Whether AUTH may be used: never where passwords could be overheard (RFC 4954 §4). */
export function mayAuth({ tls, client, user }: Session): boolean {
  return (tls || client.loopback) && user === undefined;
}

/** Keywords of the EHLO reply. */
export function ehloKeywords(session: Session, rules: Rules): string[] {
  return Object.values(VERBS).flatMap((rule) => {
    if (rule.offered && !rule.offered(session, rules)) return [];
    return rule.keywords?.(session, rules) ?? [];
  });
}

/** The rule of a HELP argument, and the commands there are. */
export function helpOn(argument: string | undefined, session: Session, rules: Rules): string[] {
  const offered = Object.entries(VERBS).filter(([, rule]) => !rule.offered || rule.offered(session, rules));
  const wanted = argument?.toUpperCase();
  const rule = offered.find(([verb]) => verb === wanted)?.[1];
  if (rule) return [rule.syntax];
  return [`Commands: ${offered.map(([verb]) => verb).join(" ")}`, "HELP <command> tells its syntax"];
}
