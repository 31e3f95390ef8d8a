/** Hands a finished message to the queue. */
import { formatDate } from "../message/header.ts";
import type { Rendered } from "../message/render.ts";
import type { HttpOptions } from "./options.ts";
import { Problem } from "./problem.ts";

/** Who sends what to whom. */
export interface Submission {
  /** Reverse-path. */
  readonly from: string;
  /** Forward-paths. */
  readonly recipients: readonly string[];
  readonly message: Rendered;
  /** Name of the token. */
  readonly user: string;
  readonly client?: string;
}

/**
 * Makes the message durable and returns its queue id.
 * @throws {Unavailable} when the queue takes no mail now.
 * @throws {Problem} 413 for a message that is too large.
 */
export async function submit(options: HttpOptions, submission: Submission): Promise<string> {
  const { config, acceptor, clock } = options;
  const { content, messageId, body, smtpUtf8 } = submission.message;
  if (content.length > config.maxMessageSize) {
    throw new Problem(413, `The message has ${content.length} bytes, at most ${config.maxMessageSize}.`);
  }
  const isUtf8 = smtpUtf8 ||
    [submission.from, ...submission.recipients].some((address) => !/^[\x20-\x7e]*$/.test(address));
  const upload = acceptor.begin({
    reversePath: submission.from,
    recipients: submission.recipients.map((address) => ({ address })),
    body,
    smtpUtf8: isUtf8,
    source: {
      protocol: "HTTP",
      user: submission.user,
      ...(submission.client === undefined ? {} : { client: submission.client }),
    },
  });
  try {
    const date = formatDate(clock.now());
    const received = `Received: by ${config.hostname} with HTTP id ${upload.id};\r\n ${date}\r\n`;
    await upload.write(new TextEncoder().encode(received));
    await upload.write(content);
    await upload.commit({ headerMessageId: messageId });
  } catch (error) {
    await upload.abort();
    throw error;
  }
  return upload.id;
}
