/** Looks at a message's header section while its content streams by. */
import { parseMessageId } from "./header.ts";

/** What was found in a header section. */
export interface HeaderFacts {
  /** Number of Received fields: the hops so far. */
  readonly received: number;
  readonly hasDate: boolean;
  readonly hasMessageId: boolean;
  /** Value of Message-ID, without angle brackets, where it has the form of one. */
  readonly messageId?: string;
  /** The content does not begin with a field: what stands there is body, and must stay so behind added fields. */
  readonly bodyOnly: boolean;
}

const LATIN1 = new TextDecoder("latin1");
const NOTHING = new Uint8Array(0);

/**
 * Holds back content until its header section is complete (or `limit` bytes are), then gives it out with the facts.
 * Only one such stretch is ever held.
 */
export class HeaderScanner {
  readonly #limit: number;
  #held: Uint8Array = NOTHING;
  #size = 0;
  #facts: HeaderFacts | undefined;

  /** @param limit bytes held at most; fields beyond are not looked at. */
  constructor(limit = 262_144) {
    this.#limit = limit;
  }

  /** Set once the header section is complete. */
  get facts(): HeaderFacts | undefined {
    return this.#facts;
  }

  /**
   * Takes content up to the end of the header section. Returns undefined while more is needed; then everything so
   * far, as a view that stays valid only as long as `chunk` does.
   */
  push(chunk: Uint8Array): Uint8Array | undefined {
    const from = this.#size;
    const all = from === 0 ? chunk : this.#append(chunk);
    const end = sectionEnd(all, Math.max(0, from - 3));
    if (end < 0 && all.length < this.#limit) {
      if (from === 0) this.#append(chunk);
      return undefined;
    }
    return this.#finish(all, end < 0 ? all.length : end);
  }

  /** The content ended within its header section: gives out what is held. */
  end(): Uint8Array {
    return this.#finish(this.#held.subarray(0, this.#size), this.#size);
  }

  #append(chunk: Uint8Array): Uint8Array {
    const size = this.#size + chunk.length;
    if (size > this.#held.length) {
      const larger = new Uint8Array(Math.max(size, this.#held.length * 2, 2_048));
      larger.set(this.#held.subarray(0, this.#size));
      this.#held = larger;
    }
    this.#held.set(chunk, this.#size);
    this.#size = size;
    return this.#held.subarray(0, size);
  }

  #finish(all: Uint8Array, end: number): Uint8Array {
    this.#facts = readFacts(LATIN1.decode(all.subarray(0, Math.min(end, this.#limit))));
    this.#held = NOTHING;
    this.#size = 0;
    return all;
  }
}

/** Offset behind the empty line, searched from `from`; -1 where there is none yet. */
function sectionEnd(bytes: Uint8Array, from: number): number {
  if (bytes[0] === 13 && bytes[1] === 10) return 2;
  for (let lf = bytes.indexOf(10, from); lf >= 0; lf = bytes.indexOf(10, lf + 1)) {
    if (bytes[lf + 1] === 13 && bytes[lf + 2] === 10) return lf + 3;
  }
  return -1;
}

function readFacts(section: string): HeaderFacts {
  const messageIdField = /^message-id[ \t]*:((?:[^\r\n]|\r\n[ \t])*)/im.exec(section);
  const messageId = parseMessageId(messageIdField?.[1]);
  return {
    received: section.match(/^received[ \t]*:/gim)?.length ?? 0,
    hasDate: /^date[ \t]*:/im.test(section),
    hasMessageId: messageIdField !== null,
    ...(messageId === undefined ? {} : { messageId }),
    bodyOnly: !/^(?:[\x21-\x39\x3b-\x7e]+[ \t]*:|\r\n)/.test(section),
  };
}
