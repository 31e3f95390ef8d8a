/** What a client of the API holds on to: the shapes of its answers. */
export type {
  AttemptView,
  CapturedListView,
  CapturedView,
  CommandKind,
  CommandResult,
  DeadListView,
  DeadView,
  DomainView,
  FoundView,
  MessagesView,
  MessageView,
  PipelineView,
  QueueView,
  RecipientView,
} from "../queue/api.ts";

/** `application/problem+json` (RFC 9457), the body of every error. */
export interface ProblemView {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors: readonly { readonly path: string; readonly message: string }[];
}

/** Answer of `POST /v1/messages`. */
export interface SentView {
  readonly id: string;
  readonly messageId: string;
  readonly recipients: readonly {
    readonly id: string;
    readonly address: string;
    readonly status: "queued";
  }[];
}
