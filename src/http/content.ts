/** Message content as an answer. */

/**
 * Answers with a message's bytes as a file: never shown by a browser as a page of this origin. `closing` breaks the
 * stream off.
 */
export function streamContent(
  content: AsyncIterable<Uint8Array>,
  id: string,
  closing?: AbortSignal,
): Response {
  const stream = ReadableStream.from(content)
    .pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), closing ? { signal: closing } : {});
  return new Response(stream, {
    headers: fileHeaders("message/rfc822", `${id.replace(/[^\w-]/g, "")}.eml`),
  });
}

/** Headers that make a browser save what it gets, whatever it is. */
export function fileHeaders(type: string, filename: string): Record<string, string> {
  const ascii = filename.replace(/[^\w. -]/g, "_");
  return {
    "content-type": type,
    "content-disposition": `attachment; filename="${ascii}"; filename*=UTF-8''${encodeRfc5987(filename)}`,
    "content-security-policy": "default-src 'none'; sandbox",
  };
}

function encodeRfc5987(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(/['()*!]/g, (char) => {
    return `%${char.charCodeAt(0).toString(16).toUpperCase()}`;
  });
}

/** All bytes of a content, for a parser. */
export async function collect(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of content) chunks.push(chunk.slice());
  const whole = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
