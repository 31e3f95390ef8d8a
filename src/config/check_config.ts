/** What single settings can't show: contradictions between them, and what is probably not meant. */
import type { Config, HostPort, SettingError } from "./config.ts";
import { formatHostPort, isLoopback } from "./kinds.ts";

/** Contradictions between settings that are each fine. */
export function checkConfig(config: Config): SettingError[] {
  const errors: SettingError[] = [];
  const refuse = (variable: string, value: string | undefined, expected: string) =>
    errors.push({ variable, ...(value === undefined ? {} : { value }), expected });
  if (config.tlsCert !== undefined && config.tlsKey === undefined) {
    refuse("EPOXI_TLS_KEY", undefined, "the private key for EPOXI_TLS_CERT");
  }
  if (config.tlsKey !== undefined && config.tlsCert === undefined) {
    refuse("EPOXI_TLS_CERT", undefined, "the certificate for EPOXI_TLS_KEY");
  }
  if (config.tlsCert === undefined) {
    const forTls = "EPOXI_TLS_CERT and EPOXI_TLS_KEY beside it: these listeners speak TLS";
    if (config.smtpsListen.length > 0) refuse("EPOXI_SMTPS_LISTEN", format(config.smtpsListen), forTls);
    if (config.httpsListen.length > 0) refuse("EPOXI_HTTPS_LISTEN", format(config.httpsListen), forTls);
    const open = outside(config.submissionListen);
    if (open.length > 0) {
      const why = "a loopback address, or EPOXI_TLS_CERT and EPOXI_TLS_KEY: AUTH is not offered in the clear";
      refuse("EPOXI_SUBMISSION_LISTEN", format(open), why);
    }
  }
  if (config.apiTokens.length === 0) {
    const why = "a loopback address, or EPOXI_API_TOKENS: anyone who reaches it could send mail";
    const [http, https] = [outside(config.httpListen), outside(config.httpsListen)];
    if (http.length > 0) refuse("EPOXI_HTTP_LISTEN", format(http), why);
    if (https.length > 0) refuse("EPOXI_HTTPS_LISTEN", format(https), why);
  }
  const foreign = config.mailboxes.filter((mailbox) =>
    !config.localDomains.includes(mailbox.slice(mailbox.lastIndexOf("@") + 1))
  );
  if (foreign.length > 0) {
    refuse("EPOXI_MAILBOXES", foreign.join(","), "mailboxes in one of EPOXI_LOCAL_DOMAINS");
  }
  const routedLocal = config.routes.filter(({ domain }) => config.localDomains.includes(domain));
  if (routedLocal.length > 0) {
    const names = routedLocal.map(({ domain }) => domain).join(",");
    refuse("EPOXI_ROUTES", names, "no route for a domain of EPOXI_LOCAL_DOMAINS, whose mail stays here");
  }
  // Better refused than read and not acted on.
  if (config.policy !== undefined) {
    refuse("EPOXI_POLICY", undefined, "to be unset: this version knows no policies yet");
  }
  if (config.eventLog !== undefined) {
    refuse("EPOXI_EVENT_LOG", config.eventLog, "to be unset: this version writes no event files yet");
  }
  if (config.readyMemory >= config.memoryLimit) {
    refuse("EPOXI_READY_MEMORY", undefined, "less than EPOXI_MEMORY_LIMIT");
  }
  return errors;
}

/** Things that are allowed but probably not meant, one sentence each. */
export function warningsOf(config: Config): string[] {
  const warnings: string[] = [];
  if (config.mode === "serve" && !isFqdn(config.hostname)) {
    warnings.push(
      `EPOXI_HOSTNAME is "${config.hostname}", which is no fully qualified domain name: mail for other hosts stays in ` +
        "the queue until it is set; local delivery and static routes work.",
    );
  }
  if (config.submissionListen.length + config.smtpsListen.length > 0 && config.smtpUsers.length === 0) {
    warnings.push("There are submission listeners, but EPOXI_SMTP_USERS names nobody who could log in.");
  }
  if (config.maxRecipients < 100) {
    warnings.push(
      `EPOXI_MAX_RECIPIENTS is ${config.maxRecipients}; RFC 5321 asks for at least 100 recipients in a transaction.`,
    );
  }
  const short = config.apiTokens.filter(({ token }) => token.length < 16).map(({ name }) => name);
  if (short.length > 0) {
    warnings.push(`EPOXI_API_TOKENS: ${short.join(", ")} can be guessed; use 16 characters.`);
  }
  if (config.relayNetworks.some((network) => network.endsWith("/0"))) {
    warnings.push("EPOXI_RELAY_NETWORKS lets everyone relay: an open relay is soon found and blocked.");
  }
  return warnings;
}

/** True for a name other hosts can look up: two labels or more, and none that is reserved for this machine. */
export function isFqdn(hostname: string): boolean {
  return hostname.includes(".") && !/(^|\.)(localhost|localdomain|local|internal|invalid)$/i.test(hostname);
}

function outside(listeners: readonly HostPort[]): readonly HostPort[] {
  return listeners.filter(({ host }) => !isLoopback(host));
}

function format(listeners: readonly HostPort[]): string {
  return listeners.map(formatHostPort).join(",");
}
