import assert from "node:assert/strict";
import fc from "fast-check";
import { ConfigError, describeConfig, type Environment, readConfig } from "../../src/config/read_config.ts";
import { duration, isLoopback, network, size } from "../../src/config/kinds.ts";
import { editDistance, nearestName } from "../../src/config/names.ts";
import type { Config } from "../../src/config/config.ts";

function environment(
  variables: Record<string, string>,
  options: { files?: Record<string, string>; narrow?: boolean; hostname?: string } = {},
): Environment {
  return {
    read: (name) => variables[name],
    names: () => options.narrow ? undefined : ["PATH", ...Object.keys(variables)],
    readFile(path) {
      const text = options.files?.[path];
      if (text === undefined) throw new Error("No such file or directory");
      return text;
    },
    hostname: options.hostname ?? "mx1.example.com",
    terminal: false,
  };
}

function read(
  variables: Record<string, string>,
  options: Parameters<typeof environment>[1] = {},
  mode: Config["mode"] = "serve",
): Config {
  return readConfig(mode, environment(variables, options));
}

function errorsOf(variables: Record<string, string>, options: Parameters<typeof environment>[1] = {}) {
  try {
    read(variables, options);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.errors;
  }
  assert.fail("expected a ConfigError");
}

Deno.test("serve works with nothing set, with the defaults of the contract", () => {
  const config = read({});
  assert.equal(config.hostname, "mx1.example.com");
  assert.equal(config.dataDir, "./data");
  assert.equal(config.kv, "./data/epoxi.kv");
  assert.deepEqual(config.smtpListen, [{ host: "0.0.0.0", port: 2525 }, { host: "::", port: 2525 }]);
  assert.deepEqual(config.httpListen, [{ host: "127.0.0.1", port: 4000 }]);
  assert.deepEqual(config.retrySchedule, [300_000, 1_800_000, 7_200_000, 14_400_000, 28_800_000]);
  assert.equal(config.queueLifetime, 4 * 86_400_000);
  assert.equal(config.maxMessageSize, 25 * 1024 * 1024);
  assert.equal(config.logFormat, "json");
  assert.deepEqual(config.warnings, []);
  assert.ok(Object.isFrozen(config));
  assert.ok(!("tlsCert" in config));
});

Deno.test("dev listens on loopback only and keeps its data apart", () => {
  const config = read({}, { hostname: "laptop" }, "dev");
  assert.deepEqual(config.smtpListen, [{ host: "127.0.0.1", port: 2525 }]);
  assert.equal(config.kv, "./data/dev/epoxi.kv");
  assert.deepEqual(config.warnings, []);
});

Deno.test("every error is told at once, with variable, value and what was expected", () => {
  const errors = errorsOf({
    EPOXI_QUEUE_LIFETIME: "4 weeks",
    EPOXI_MAX_MESSAGE_SIZE: "25MB",
    EPOXI_SMTP_LISTEN: "0.0.0.0:2525,nonsense",
    EPOXI_DELIVERY_PORT: "70000",
    EPOXI_DELIVERY_IP: "5",
    EPOXI_RELAY_NETWORKS: "10.0.0.0/33",
  });
  assert.deepEqual(errors.map(({ variable }) => variable), [
    "EPOXI_SMTP_LISTEN",
    "EPOXI_RELAY_NETWORKS",
    "EPOXI_DELIVERY_PORT",
    "EPOXI_DELIVERY_IP",
    "EPOXI_QUEUE_LIFETIME",
    "EPOXI_MAX_MESSAGE_SIZE",
  ]);
  assert.equal(errors[4]!.value, "4 weeks");
  assert.match(errors[4]!.expected, /^a duration such as/);
  assert.match(errors[0]!.expected, /as entry 2 of the list$/);
  assert.match(new ConfigError(errors).message, /^6 settings are wrong:\n {2}EPOXI_SMTP_LISTEN=/);
});

Deno.test("an unknown name is an error that names the nearest; what Kubernetes injects is ignored", () => {
  const injected = {
    EPOXI_SERVICE_HOST: "10.0.0.1",
    EPOXI_PORT: "tcp://10.0.0.1:25",
    EPOXI_PORT_25_TCP_ADDR: "10.0.0.1",
  };
  assert.equal(read(injected).deliveryPort, 25);
  const [error, ...rest] = errorsOf({ ...injected, EPOXI_HOSTNAMES: "mx.example.com" });
  assert.deepEqual(rest, []);
  assert.equal(error!.variable, "EPOXI_HOSTNAMES");
  assert.match(error!.expected, /did you mean EPOXI_HOSTNAME\?/);
  assert.doesNotMatch(errorsOf({ EPOXI_ZZZZQQQQXXXX: "1" })[0]!.expected, /did you mean/);
});

Deno.test("where variables can't be listed, a misspelled one is still found", () => {
  for (
    const name of [
      "EPOXI_HOSTNAM",
      "EPOXI_HOSTNMAE",
      "EPOXI_ROUTE",
      "EPOXI_MAX_MESSAGES_SIZE",
      "EPOXI_LOGLEVEL",
    ]
  ) {
    assert.equal(errorsOf({ [name]: "x" }, { narrow: true })[0]!.variable, name);
  }
  assert.equal(read({ EPOXI_HOSTNAME: "a.example" }, { narrow: true }).hostname, "a.example");
});

Deno.test("any setting can be given as a file", () => {
  const files = { "/run/secrets/users": "ann:s%3Acret\n" };
  const config = read({ EPOXI_SMTP_USERS_FILE: "/run/secrets/users" }, { files });
  assert.deepEqual(config.smtpUsers, [{ user: "ann", password: "s:cret" }]);
  assert.match(errorsOf({ EPOXI_SMTP_USERS_FILE: "/nowhere" })[0]!.expected, /can be read \(No such file/);
  const both = errorsOf({ EPOXI_KV: "a", EPOXI_KV_FILE: "/run/secrets/users" }, { files });
  assert.match(both[0]!.expected, /only one of EPOXI_KV and EPOXI_KV_FILE/);
});

Deno.test("secrets are never shown", () => {
  const wrong = new ConfigError(errorsOf({ EPOXI_API_TOKENS: "ci:topsecret:everything" }));
  assert.doesNotMatch(wrong.message, /topsecret/);
  const config = read({ EPOXI_API_TOKENS: "ci:topsecret:send", EPOXI_SMTP_USERS: "ann:topsecret" });
  const text = describeConfig(config);
  assert.doesNotMatch(text, /topsecret/);
  assert.match(text, /^EPOXI_API_TOKENS=ci:\*\*\*:send$/m);
  assert.match(text, /^EPOXI_RETRY_SCHEDULE=5m,30m,2h,4h,8h$/m);
});

Deno.test("the description of a configuration reads back as the same configuration", () => {
  const config = read({
    EPOXI_ROUTES: "*=[::1]:2526,example.com=mx.example.net:25",
    EPOXI_HTTP_LISTEN: "[::1]:0",
  });
  const variables = Object.fromEntries(
    describeConfig(config).trimEnd().split("\n").map((line) => {
      const equals = line.indexOf("=");
      return [line.slice(0, equals), line.slice(equals + 1)];
    }),
  );
  assert.deepEqual(read(variables), config);
});

Deno.test("settings that contradict each other are refused", () => {
  const cases: [Record<string, string>, string][] = [
    [{ EPOXI_HTTP_LISTEN: "0.0.0.0:4000" }, "EPOXI_HTTP_LISTEN"],
    [{ EPOXI_TLS_CERT: "cert.pem" }, "EPOXI_TLS_KEY"],
    [{ EPOXI_TLS_KEY: "key.pem" }, "EPOXI_TLS_CERT"],
    [{ EPOXI_SMTPS_LISTEN: "127.0.0.1:465" }, "EPOXI_SMTPS_LISTEN"],
    [{ EPOXI_HTTPS_LISTEN: "127.0.0.1:443" }, "EPOXI_HTTPS_LISTEN"],
    [{ EPOXI_SUBMISSION_LISTEN: "0.0.0.0:587" }, "EPOXI_SUBMISSION_LISTEN"],
    [{ EPOXI_MAILBOXES: "ann@example.com" }, "EPOXI_MAILBOXES"],
    [{ EPOXI_LOCAL_DOMAINS: "example.com", EPOXI_ROUTES: "example.com=a.example:25" }, "EPOXI_ROUTES"],
    [{ EPOXI_READY_MEMORY: "2GiB" }, "EPOXI_READY_MEMORY"],
    [{ EPOXI_ROUTES: "a.example=b:25,A.example=c:25" }, "EPOXI_ROUTES"],
    [{ EPOXI_RETRY_SCHEDULE: "," }, "EPOXI_RETRY_SCHEDULE"],
  ];
  for (const [variables, variable] of cases) {
    assert.deepEqual(
      errorsOf(variables).map((error) => error.variable),
      [variable],
      JSON.stringify(variables),
    );
  }
  assert.equal(read({ EPOXI_HTTP_LISTEN: "0.0.0.0:4000", EPOXI_API_TOKENS: "a:b" }).apiTokens.length, 1);
  assert.equal(
    read({ EPOXI_SUBMISSION_LISTEN: "127.0.0.1:587", EPOXI_SMTP_USERS: "a:b" }).warnings.length,
    0,
  );
});

Deno.test("a machine with any name starts; without a full name it is told what will wait", () => {
  assert.equal(read({}, { hostname: "123456789012" }).hostname, "localhost");
  assert.match(read({}, { hostname: "vm" }).warnings[0]!, /EPOXI_HOSTNAME is "vm".*no fully qualified/);
});

Deno.test("an empty value is no value, except for a list, where it means none", () => {
  const config = read({ EPOXI_DATA_DIR: "", EPOXI_HTTP_LISTEN: "", EPOXI_RELAY_NETWORKS: "" });
  assert.equal(config.dataDir, "./data");
  assert.deepEqual(config.httpListen, []);
  assert.deepEqual(config.relayNetworks, []);
});

Deno.test("names and tokens are checked to the letter", () => {
  const config = read({
    EPOXI_LOCAL_DOMAINS: "Example.COM,bücher.example",
    EPOXI_MAILBOXES: "Ann@EXAMPLE.com",
    EPOXI_API_TOKENS: "ci:0123456789abcdef:read+send",
    EPOXI_DNS_SERVERS: "::1,127.0.0.1:5353",
  });
  assert.deepEqual(config.localDomains, ["example.com", "xn--bcher-kva.example"]);
  assert.deepEqual(config.mailboxes, ["Ann@example.com"]);
  assert.deepEqual(config.apiTokens[0]!.scopes, ["read", "send"]);
  assert.deepEqual(config.dnsServers, [{ host: "::1", port: 53 }, { host: "127.0.0.1", port: 5353 }]);
  for (
    const wrong of [
      "-a.example",
      "a..example",
      "a b.example",
      "1.2.3.4",
      "a.example\r\nX: y",
      ".",
      "x".repeat(64),
    ]
  ) {
    assert.equal(errorsOf({ EPOXI_LOCAL_DOMAINS: wrong })[0]!.variable, "EPOXI_LOCAL_DOMAINS", wrong);
  }
});

Deno.test("durations and sizes read back as written", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 10 ** 12 }), (value) => {
    assert.equal(duration().parse(duration().format(value)), value);
    assert.equal(size().parse(size().format(value)), value);
  }));
  assert.equal(duration().parse("1.5h"), 5_400_000);
  for (const wrong of ["", "5", "m", "-5m", "5 months", "1e3s", "5mm", "5constructor"]) {
    assert.throws(() => duration().parse(wrong), { name: "Unfit" }, wrong);
  }
});

Deno.test("networks and loopback", () => {
  assert.equal(network.parse("10.1.2.3"), "10.1.2.3/32");
  for (
    const wrong of ["10.0.0/8", "10.0.0.0/", "::1/129", "fe80::1%eth0/64", "10.0.0.0/8/8", "example.com"]
  ) {
    assert.throws(() => network.parse(wrong), { name: "Unfit" }, wrong);
  }
  assert.ok(isLoopback("127.8.9.1") && isLoopback("::1") && isLoopback("::ffff:127.0.0.1"));
  assert.ok(!isLoopback("127.0.0.1.example.com") && !isLoopback("0.0.0.0"));
});

Deno.test("edit distance is symmetric and zero only for the same name", () => {
  const word = fc.string({ maxLength: 8 });
  fc.assert(fc.property(word, word, (a, b) => {
    assert.equal(editDistance(a, b), editDistance(b, a));
    assert.equal(editDistance(a, b) === 0, a === b);
  }));
  assert.equal(nearestName("EPOXI_HOSTNMAE", ["EPOXI_KV", "EPOXI_HOSTNAME"]), "EPOXI_HOSTNAME");
});
