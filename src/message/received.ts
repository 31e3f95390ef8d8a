/** The trace field a server puts in front of what it accepts (RFC 5321 §4.4). */
import { isIPv6 } from "node:net";
import { formatDate } from "./header.ts";

/** What is told of one reception. */
export interface Reception {
  /** EHLO or HELO argument. */
  readonly helo: string;
  /** Client's IP address. */
  readonly client: string;
  /** Our hostname. */
  readonly by: string;
  /** `ESMTPS` and the like (RFC 3848, 6531). */
  readonly protocol: string;
  /** Queue id. */
  readonly id: string;
  /** `TLSv1.3 TLS_AES_128_GCM_SHA256`. */
  readonly tls?: string;
  /** The recipient, where there is but one: more would tell the blind ones. */
  readonly recipient?: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** A whole `Received` field with its CRLF. */
export function receivedField(reception: Reception): string {
  const { helo, client, by, protocol, id, tls, recipient, at } = reception;
  const literal = isIPv6(client) ? `[IPv6:${client}]` : `[${client}]`;
  const secured = tls === undefined ? "" : `\r\n\t(${tls})`;
  // A path longer than a line may be is left out: the field must not break the message.
  const target = recipient !== undefined && recipient.length < 900 ? `\r\n\tfor <${recipient}>` : "";
  return `Received: from ${helo} (${literal})\r\n\tby ${by} with ${protocol} id ${id}${secured}${target};\r\n\t${
    formatDate(at)
  }\r\n`;
}
