/** A sink that remembers what it was sent. */
import { type SinkOptions, SinkServer } from "../../src/cli/sink_server.ts";

/** One message as it came. */
export interface RecordedMessage {
  readonly from: string;
  readonly to: readonly string[];
  /** Latin-1, so that each character is a byte. */
  readonly content: string;
}

/** Starts a sink on a free port of loopback; `messages` grows. */
export function recordingSink(
  options: Omit<Partial<SinkOptions>, "receive"> = {},
): { sink: SinkServer; messages: RecordedMessage[] } {
  const messages: RecordedMessage[] = [];
  const sink = SinkServer.start({
    listen: { host: "127.0.0.1", port: 0 },
    ...options,
    receive({ from, to }) {
      const decoder = new TextDecoder("latin1");
      let content = "";
      return {
        write: (chunk) => void (content += decoder.decode(chunk, { stream: true })),
        end: () => void messages.push({ from, to: [...to], content }),
        abort() {},
      };
    },
  });
  return { sink, messages };
}
