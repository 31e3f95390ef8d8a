/** A queue in memory for tests of what stands before it: accepts, keeps, and answers as told. */
import type {
  CapturedListView,
  CommandKind,
  CommandResult,
  DeadListView,
  FoundView,
  MessagesView,
  MessageView,
  PipelineView,
  QueueApi,
  QueueView,
} from "../../src/queue/api.ts";
import { type Acceptor, type NewMessage, Unavailable, type Upload } from "../../src/queue/model.ts";

/** What went through the front door. */
export interface Accepted extends NewMessage {
  readonly id: string;
  readonly content: Uint8Array;
  readonly headerMessageId?: string;
}

/** Accepts into memory; `failures` makes the commit of matching messages fail. */
export class FakeAcceptor implements Acceptor {
  readonly accepted: Accepted[] = [];
  readonly aborted: string[] = [];
  sick: string[] = [];
  failures: (message: NewMessage) => Error | undefined = () => undefined;
  #next = 1;

  begin(message: NewMessage): Upload {
    if (this.sick.length > 0) throw new Unavailable(this.sick.join(" "));
    const id = `id${this.#next++}`;
    const chunks: Uint8Array[] = [];
    return {
      id,
      write(chunk) {
        chunks.push(chunk.slice());
        return Promise.resolve();
      },
      commit: (found) => {
        const failure = this.failures(message);
        if (failure) return Promise.reject(failure);
        const content = new Uint8Array(chunks.flatMap((chunk) => [...chunk]));
        this.accepted.push({ ...message, id, content, ...found });
        return Promise.resolve();
      },
      abort: () => {
        this.aborted.push(id);
        return Promise.resolve();
      },
    };
  }

  reasons(): string[] {
    return this.sick;
  }
}

const EMPTY: QueueView = {
  messages: 0,
  recipients: 0,
  scheduled: 0,
  ready: 0,
  inFlight: 0,
  held: 0,
  deadLetters: 0,
  oldest: null,
  domains: [],
};

/** Answers from its fields and notes every call in `calls`. */
export class FakeQueueApi implements QueueApi {
  readonly calls: unknown[][] = [];
  readonly messages = new Map<string, MessageView>();
  readonly contents = new Map<string, Uint8Array>();
  queue: QueueView = EMPTY;
  result: CommandResult = "applied";
  found: FoundView[] = [];
  capturedList: CapturedListView = { messages: [] };
  deadList: DeadListView = { messages: [] };
  lanes: PipelineView[] = [];

  get(id: string): Promise<MessageView | undefined> {
    return Promise.resolve(this.messages.get(id));
  }
  summary(options: unknown): Promise<QueueView> {
    this.calls.push(["summary", options]);
    return Promise.resolve(this.queue);
  }
  list(options: unknown): Promise<MessagesView> {
    this.calls.push(["list", options]);
    return Promise.resolve({ messages: this.found });
  }
  command(kind: CommandKind, id: string, by: string): Promise<CommandResult> {
    return this.#order(kind, id, by);
  }
  find(query: string, limit: number): Promise<readonly FoundView[]> {
    this.calls.push(["find", query, limit]);
    return Promise.resolve(this.found);
  }
  captured(options: unknown): Promise<CapturedListView> {
    this.calls.push(["captured", options]);
    return Promise.resolve(this.capturedList);
  }
  content(id: string): Promise<AsyncIterable<Uint8Array> | undefined> {
    const bytes = this.contents.get(id);
    return Promise.resolve(bytes && chunked(bytes));
  }
  forget(id: string | undefined, by: string): Promise<CommandResult> {
    return this.#order("forget", id, by);
  }
  dead(options: unknown): Promise<DeadListView> {
    this.calls.push(["dead", options]);
    return Promise.resolve(this.deadList);
  }
  replay(id: string, by: string): Promise<CommandResult> {
    return this.#order("replay", id, by);
  }
  purge(id: string, by: string): Promise<CommandResult> {
    return this.#order("purge", id, by);
  }
  pipelines(): Promise<readonly PipelineView[]> {
    return Promise.resolve(this.lanes);
  }

  #order(kind: string, id: string | undefined, by: string): Promise<CommandResult> {
    this.calls.push([kind, id, by]);
    return Promise.resolve(this.result);
  }
}

async function* chunked(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) {
    await Promise.resolve();
    yield bytes.slice(at, at + 1000);
  }
}
