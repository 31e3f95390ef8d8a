/** An acceptor that keeps messages in memory. */
import { type Acceptor, type NewMessage, Unavailable, type Upload } from "../../src/queue/model.ts";

/** A message that was committed. */
export interface KeptMessage extends NewMessage {
  readonly id: string;
  readonly content: Uint8Array;
  readonly text: string;
  readonly headerMessageId: string | undefined;
}

export class MemoryAcceptor implements Acceptor {
  readonly messages: KeptMessage[] = [];
  begun = 0;
  aborted = 0;
  /** Set to refuse mail. */
  unavailable: string | undefined;
  /** Awaited by each commit. */
  beforeCommit: () => Promise<void> | void = () => {};

  /** Keeps nothing, for load. */
  constructor(readonly keep = true) {}

  reasons(): string[] {
    return this.unavailable === undefined ? [] : [this.unavailable];
  }

  begin(message: NewMessage): Upload {
    if (this.unavailable !== undefined) throw new Unavailable(this.unavailable);
    const id = `id${++this.begun}`;
    const chunks: Uint8Array[] = [];
    return {
      id,
      write: (chunk) => {
        if (this.keep) chunks.push(chunk.slice());
        return Promise.resolve();
      },
      commit: async (found) => {
        await this.beforeCommit();
        if (!this.keep) return;
        const content = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
        let at = 0;
        for (const chunk of chunks) {
          content.set(chunk, at);
          at += chunk.length;
        }
        const text = new TextDecoder().decode(content);
        this.messages.push({ ...message, id, content, text, headerMessageId: found?.headerMessageId });
      },
      abort: () => {
        this.aborted++;
        return Promise.resolve();
      },
    };
  }
}
