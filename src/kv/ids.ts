/** Ids that sort by time. A queue id begins with its shard: `ss` + time (9) + counter (3) + random (4). */

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const TIME_LENGTH = 9;

/** Length of a queue id. */
export const QUEUE_ID_LENGTH = 2 + TIME_LENGTH + 3 + 4;

/** Makes ids for one process. */
export interface IdSource {
  /** A new queue id in shard `s`; later calls in one shard sort later. */
  queueId(s: number, now: number): string;
  /** A new id that sorts by time, unique across processes. */
  stamp(now: number): string;
}

/** @param random yields numbers in [0, 1). */
export function createIdSource(random: () => number = Math.random): IdSource {
  let last = 0;
  let counter = 0;
  const stamp = (now: number) => {
    // A clock that steps back must not reorder what was accepted.
    if (now <= last) counter++;
    else {
      last = now;
      counter = 0;
    }
    if (counter > 0x7fff) {
      last++;
      counter = 0;
    }
    return encode32(last, TIME_LENGTH) + encode32(counter, 3) + encode32(Math.floor(random() * 2 ** 20), 4);
  };
  return { stamp, queueId: (s, now) => encode32(s, 2) + stamp(now) };
}

/** Shard of a queue id, or undefined when `id` can't be one. */
export function shardOf(id: string): number | undefined {
  if (id.length !== QUEUE_ID_LENGTH) return undefined;
  for (let i = 0; i < id.length; i++) if (!ALPHABET.includes(id[i]!)) return undefined;
  return decode32(id.slice(0, 2));
}

/** The first queue id (or, without `s`, stamp) that could have been made at `time`. */
export function idAt(time: number, s?: number): string {
  return (s === undefined ? "" : encode32(s, 2)) + encode32(Math.max(0, time), TIME_LENGTH);
}

/** When a queue id was made, milliseconds since the epoch. */
export function timeOf(id: string): number {
  return decode32(id.slice(2, 2 + TIME_LENGTH));
}

function encode32(value: number, length: number): string {
  let text = "";
  let rest = Math.floor(value);
  for (let i = 0; i < length; i++) {
    text = ALPHABET[rest % 32]! + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

function decode32(text: string): number {
  let value = 0;
  for (const char of text) value = value * 32 + ALPHABET.indexOf(char);
  return value;
}
