/** The settings of one process, checked and frozen. */

/** A host (name or address, IPv6 without brackets) and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface Config {
  /** `dev`: captures mail for the outside. */
  readonly mode: "dev" | "serve";
  readonly hostname: string;
  readonly dataDir: string;
  /** A file path or a KV Connect URL. */
  readonly kv: string;
  readonly smtpListen: readonly HostPort[];
  readonly submissionListen: readonly HostPort[];
  readonly smtpsListen: readonly HostPort[];
  readonly httpListen: readonly HostPort[];
  readonly httpsListen: readonly HostPort[];
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  /** CIDR blocks. */
  readonly relayNetworks: readonly string[];
  readonly smtpUsers: readonly { readonly user: string; readonly password: string }[];
  readonly localDomains: readonly string[];
  readonly mailboxes: readonly string[];
  readonly routes: readonly { readonly domain: string; readonly host: string; readonly port: number }[];
  /** Empty: the system's. */
  readonly dnsServers: readonly HostPort[];
  readonly deliveryPort: number;
  readonly deliveryIp: "any" | "4" | "6";
  readonly deliveryPrivate: "deny" | "allow";
  /** Durations are milliseconds, sizes are bytes, everywhere. */
  readonly retrySchedule: readonly number[];
  readonly queueLifetime: number;
  readonly delayNotice: number;
  readonly maxMessageSize: number;
  readonly maxRecipients: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerClient: number;
  readonly maxErrors: number;
  readonly smtpTimeout: number;
  readonly readyMemory: number;
  readonly memoryLimit: number;
  readonly minFreeDisk: number;
  readonly history: number;
  readonly historySize: number;
  readonly deadLetters: number;
  readonly deadLettersSize: number;
  readonly lease: number;
  readonly apiTokens: readonly {
    readonly name: string;
    readonly token: string;
    readonly scopes: readonly string[];
  }[];
  readonly policy?: string;
  readonly eventLog?: string;
  readonly nodeId?: string;
  readonly logFormat: "text" | "json";
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly shutdownTimeout: number;
  /** What is allowed but probably not meant: one sentence each. */
  readonly warnings: readonly string[];
}

/** One wrong setting. */
export interface SettingError {
  readonly variable: string;
  /** As given; `***` for a secret. Undefined where it is missing. */
  readonly value?: string;
  /** What was expected, as an end to "expected". */
  readonly expected: string;
}
