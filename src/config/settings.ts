/** The one table of settings: variable, kind, default and what it means. README's table is made from it. */
import type { Config } from "./config.ts";
import {
  addressWithPort,
  apiToken,
  domain,
  duration,
  hostPort,
  integer,
  jsonObject,
  type Kind,
  list,
  mailbox,
  network,
  oneOf,
  optional,
  path,
  route,
  size,
  text,
  Unfit,
  user,
} from "./kinds.ts";

/** What a default can depend on. */
export interface Defaults {
  readonly mode: Config["mode"];
  /** The machine's name. */
  readonly hostname: string;
  /** Standard output is a terminal. */
  readonly terminal: boolean;
  /** The data folder, once it is known. */
  readonly dataDir: string;
}

/** One setting. */
export interface Setting<T> {
  /** The environment variable. */
  readonly variable: string;
  readonly kind: Kind<T>;
  /** Text as it would stand in the environment; undefined where nothing is set. */
  readonly default: string | undefined | ((defaults: Defaults) => string);
  /** How the default is described where it is no plain text. */
  readonly defaultDoc?: string;
  readonly doc: string;
  /** The value is never shown. */
  readonly secret?: true;
}

type Values = Omit<Config, "mode" | "warnings">;
type Table = { readonly [K in keyof Values]-?: Setting<Values[K] | undefined> | Setting<Values[K]> };

const listeners = list(
  hostPort(true),
  ({ host, port }) => port === 0 ? undefined : `${host}:${port}`,
);

/** Every setting by its name in {@linkcode Config}, in the order of the documentation. */
export const SETTINGS = {
  hostname: {
    variable: "EPOXI_HOSTNAME",
    kind: domain,
    default: ({ hostname }) => hostname,
    defaultDoc: "the machine's",
    doc:
      "Our name in greeting, EHLO, Received and Message-ID. Without a dot in it, nothing is sent to MX hosts.",
  },
  dataDir: {
    variable: "EPOXI_DATA_DIR",
    kind: path,
    default: ({ mode }) => mode === "dev" ? "./data/dev" : "./data",
    defaultDoc: "`./data`; dev: `./data/dev`",
    doc: "The folder with everything on disk.",
  },
  kv: {
    variable: "EPOXI_KV",
    kind: path,
    default: ({ dataDir }) => `${dataDir.replace(/\/+$/, "")}/epoxi.kv`,
    defaultDoc: "`<data dir>/epoxi.kv`",
    doc: "Deno KV: a file, or an `https://` or `http://` KV Connect URL (with `DENO_KV_ACCESS_TOKEN`).",
  },
  smtpListen: {
    variable: "EPOXI_SMTP_LISTEN",
    kind: listeners,
    default: ({ mode }) => mode === "dev" ? "127.0.0.1:2525" : "0.0.0.0:2525,[::]:2525",
    defaultDoc: "`0.0.0.0:2525,[::]:2525`; dev: `127.0.0.1:2525`",
    doc: "Listeners for mail from other hosts, and relay.",
  },
  submissionListen: {
    variable: "EPOXI_SUBMISSION_LISTEN",
    kind: listeners,
    default: "",
    doc: "Listeners for submission (RFC 6409); AUTH is required.",
  },
  smtpsListen: {
    variable: "EPOXI_SMTPS_LISTEN",
    kind: listeners,
    default: "",
    doc: "Listeners for submission over implicit TLS (RFC 8314).",
  },
  httpListen: {
    variable: "EPOXI_HTTP_LISTEN",
    kind: listeners,
    default: "127.0.0.1:4000",
    doc: "Listeners for API, page and metrics. Off loopback only with `EPOXI_API_TOKENS`.",
  },
  httpsListen: {
    variable: "EPOXI_HTTPS_LISTEN",
    kind: listeners,
    default: "",
    doc: "The same over TLS.",
  },
  tlsCert: {
    variable: "EPOXI_TLS_CERT",
    kind: optional(path),
    default: undefined,
    doc: "PEM file with the certificate and its chain; read again when it changes.",
  },
  tlsKey: {
    variable: "EPOXI_TLS_KEY",
    kind: optional(path),
    default: undefined,
    doc: "PEM file with the private key.",
  },
  relayNetworks: {
    variable: "EPOXI_RELAY_NETWORKS",
    kind: list(network),
    default: "127.0.0.0/8,::1/128",
    doc: "Who may relay without AUTH; exempt from the limit per client.",
  },
  smtpUsers: {
    variable: "EPOXI_SMTP_USERS",
    kind: list(user, ({ user }) => `user ${user}`),
    default: "",
    secret: true,
    doc: "`user:password` (both percent-encoded) for AUTH.",
  },
  localDomains: {
    variable: "EPOXI_LOCAL_DOMAINS",
    kind: list(domain, (name) => name),
    default: "",
    doc: "Domains whose mail is ours: delivered to Maildirs in `<data dir>/mail/<domain>/<user>`.",
  },
  mailboxes: {
    variable: "EPOXI_MAILBOXES",
    kind: list(mailbox, (address) => address),
    default: "",
    doc: "`user@domain`: where given, only these exist (and postmaster); others are `550 5.1.1`.",
  },
  routes: {
    variable: "EPOXI_ROUTES",
    kind: list(route, (each) => `the route of ${each.domain}`),
    default: "",
    doc: "`domain=host:port`, and `*=host:port` for all the rest: static next hops in place of MX.",
  },
  dnsServers: {
    variable: "EPOXI_DNS_SERVERS",
    kind: list(addressWithPort(53)),
    default: "",
    defaultDoc: "the system's",
    doc: "`ip` or `ip:port` of DNS resolvers.",
  },
  deliveryPort: {
    variable: "EPOXI_DELIVERY_PORT",
    kind: integer(1, 65535),
    default: "25",
    doc: "Port of MX hosts.",
  },
  deliveryIp: {
    variable: "EPOXI_DELIVERY_IP",
    kind: oneOf("any", "4", "6"),
    default: "any",
    doc: "IP version for delivery: `any`, `4` or `6`.",
  },
  deliveryPrivate: {
    variable: "EPOXI_DELIVERY_PRIVATE",
    kind: oneOf("deny", "allow"),
    default: "deny",
    doc: "`allow` lets MX hosts lie on loopback and private ranges; static routes always may.",
  },
  retrySchedule: {
    variable: "EPOXI_RETRY_SCHEDULE",
    kind: nonEmpty(list(duration(10))),
    default: "5m,30m,2h,4h,8h",
    doc: "Waits between attempts; the last repeats until the queue lifetime ends.",
  },
  queueLifetime: {
    variable: "EPOXI_QUEUE_LIFETIME",
    kind: duration(),
    default: "4d",
    doc: "How long delivery is tried; then the message fails, with a report to its sender.",
  },
  delayNotice: {
    variable: "EPOXI_DELAY_NOTICE",
    kind: duration(),
    default: "4h",
    doc: "When a sender who asked for it is told of a delay.",
  },
  maxMessageSize: {
    variable: "EPOXI_MAX_MESSAGE_SIZE",
    kind: size(1024),
    default: "25MiB",
    doc: "Largest message that is accepted.",
  },
  maxRecipients: {
    variable: "EPOXI_MAX_RECIPIENTS",
    kind: integer(1, 100_000),
    default: "1000",
    doc: "Recipients an SMTP transaction may have.",
  },
  maxConnections: {
    variable: "EPOXI_MAX_CONNECTIONS",
    kind: integer(1, 1_000_000),
    default: "2000",
    doc: "Incoming SMTP connections at a time.",
  },
  maxConnectionsPerClient: {
    variable: "EPOXI_MAX_CONNECTIONS_PER_CLIENT",
    kind: integer(1, 1_000_000),
    default: "50",
    doc: "The same from one address.",
  },
  maxErrors: {
    variable: "EPOXI_MAX_ERRORS",
    kind: integer(1, 1_000_000),
    default: "20",
    doc: "Errors an SMTP session may make; then `421`.",
  },
  smtpTimeout: {
    variable: "EPOXI_SMTP_TIMEOUT",
    kind: duration(100),
    default: "5m",
    doc: "How long an idle SMTP client is waited for.",
  },
  readyMemory: {
    variable: "EPOXI_READY_MEMORY",
    kind: size(1024 ** 2),
    default: "64MiB",
    doc: "Memory for messages that are ready to go.",
  },
  memoryLimit: {
    variable: "EPOXI_MEMORY_LIMIT",
    kind: size(1024 ** 2),
    default: "1GiB",
    doc: "Memory of the process (RSS) above which mail is answered 4xx.",
  },
  minFreeDisk: {
    variable: "EPOXI_MIN_FREE_DISK",
    kind: size(0),
    default: "512MiB",
    doc: "Free disk space below which mail is answered 4xx.",
  },
  history: {
    variable: "EPOXI_HISTORY",
    kind: duration(),
    default: "3d",
    doc: "How long it is kept what happened to messages.",
  },
  historySize: {
    variable: "EPOXI_HISTORY_SIZE",
    kind: size(),
    default: "2GiB",
    doc: "How much of it is kept.",
  },
  deadLetters: {
    variable: "EPOXI_DEAD_LETTERS",
    kind: duration(),
    default: "7d",
    doc: "How long failed messages are kept for replay.",
  },
  deadLettersSize: {
    variable: "EPOXI_DEAD_LETTERS_SIZE",
    kind: size(),
    default: "1GiB",
    doc: "How many bytes of them are kept.",
  },
  lease: {
    variable: "EPOXI_LEASE",
    kind: duration(1000),
    default: "15s",
    doc: "Silence after which a node is taken for dead.",
  },
  apiTokens: {
    variable: "EPOXI_API_TOKENS",
    kind: list(apiToken, ({ name }) => `token ${name}`),
    default: "",
    secret: true,
    doc:
      "`name:token` or `name:token:scope+scope`, with the scopes `read`, `send` and `admin`; without scopes, all.",
  },
  policy: {
    variable: "EPOXI_POLICY",
    kind: optional(jsonObject),
    default: undefined,
    secret: true,
    doc: "Reserved for policies; refused by this version.",
  },
  eventLog: {
    variable: "EPOXI_EVENT_LOG",
    kind: optional(path),
    default: undefined,
    doc: "Reserved for a folder of JSONL event files; refused by this version.",
  },
  nodeId: {
    variable: "EPOXI_NODE_ID",
    kind: optional(
      text("a name of letters, digits, . _ and -, at most 64", /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
    ),
    default: undefined,
    defaultDoc: "made once, kept in the data folder",
    doc: "Name of this node.",
  },
  logFormat: {
    variable: "EPOXI_LOG_FORMAT",
    kind: oneOf("text", "json"),
    default: ({ terminal }) => terminal ? "text" : "json",
    defaultDoc: "`text` on a terminal, else `json`",
    doc: "How log lines look.",
  },
  logLevel: {
    variable: "EPOXI_LOG_LEVEL",
    kind: oneOf("debug", "info", "warn", "error"),
    default: "info",
    doc: "The least important level that is logged.",
  },
  shutdownTimeout: {
    variable: "EPOXI_SHUTDOWN_TIMEOUT",
    kind: duration(0),
    default: "30s",
    doc: "How long a stop waits for what is in flight.",
  },
} as const satisfies Table;

/** Names in {@linkcode Config} that have a setting, in order. */
export const SETTING_NAMES = Object.keys(SETTINGS) as (keyof typeof SETTINGS)[];

/** The setting called `name`, without the detail of its type. */
export function settingOf(name: keyof typeof SETTINGS): Setting<unknown> {
  return SETTINGS[name] as Setting<unknown>;
}

function nonEmpty<T>(kind: Kind<readonly T[]>): Kind<readonly T[]> {
  return {
    parse(value) {
      const values = kind.parse(value);
      if (values.length === 0) throw new Unfit("at least one entry");
      return values;
    },
    format: kind.format,
  };
}
