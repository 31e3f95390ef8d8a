/** Sorts the recipients of a message into envelopes: one per next hop, each of bounded size. */
import type { Envelope, Recipient } from "./model.ts";
import { formatNextHop, type NextHop } from "./next_hop.ts";
import { domainOf } from "../smtp/address.ts";

/** Recipients of one envelope at most (what every server must take per transaction, RFC 5321 §4.5.3.1.8). */
const MAX_RECIPIENTS = 100;
/** Characters of addresses in one envelope at most: its row must stay under 64 KiB with every reply in it. */
const MAX_SIZE = 20_000;

/** Envelopes of message `id`, numbered from 0, all due at `when.at` in band `when.band`. */
export function envelopesOf(
  id: string,
  recipients: readonly Recipient[],
  routing: (domain: string) => NextHop,
  when: { readonly band: number; readonly at: number },
): Envelope[] {
  const open = new Map<string, { recipients: Recipient[]; size: number }>();
  const groups: { queue: string; recipients: Recipient[] }[] = [];
  for (const recipient of recipients) {
    const queue = formatNextHop(routing(domainOf(recipient.address)));
    const size = recipient.address.length + (recipient.orcpt?.length ?? 0);
    let group = open.get(queue);
    if (!group || group.recipients.length >= MAX_RECIPIENTS || group.size + size > MAX_SIZE) {
      open.set(queue, group = { recipients: [], size: 0 });
      groups.push({ queue, recipients: group.recipients });
    }
    group.recipients.push(recipient);
    group.size += size;
  }
  return groups.map(({ queue, recipients }, n) => ({ id, n, queue, ...when, recipients }));
}
