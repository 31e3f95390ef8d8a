/** Writes what a sink receives into a folder: `<n>.eml` as it came, `<n>.json` with its envelope. */
import type { SinkEnvelope, SinkReceiver } from "./sink_session.ts";

/**
 * Receivers for the folder `dir`, which is made where it is missing. Numbers go on after those that are there, and a
 * file gets its name once the message is whole.
 */
export async function dumpInto(dir: string): Promise<(envelope: SinkEnvelope) => SinkReceiver> {
  await Deno.mkdir(dir, { recursive: true });
  let last = 0;
  for await (const { name } of Deno.readDir(dir)) {
    last = Math.max(last, Number(/^(\d+)\.eml/.exec(name)?.[1] ?? 0));
  }
  return (envelope) => new DumpedMessage(`${dir}/${String(++last).padStart(8, "0")}`, envelope);
}

class DumpedMessage implements SinkReceiver {
  readonly #path: string;
  readonly #envelope: SinkEnvelope;
  #file: Deno.FsFile | undefined;
  #size = 0;

  constructor(path: string, envelope: SinkEnvelope) {
    this.#path = path;
    this.#envelope = { from: envelope.from, to: [...envelope.to] };
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#file ??= await this.#open();
    this.#size += chunk.length;
    for (let sent = 0; sent < chunk.length;) sent += await this.#file.write(chunk.subarray(sent));
  }

  async end(): Promise<void> {
    this.#file ??= await this.#open();
    this.#file.close();
    this.#file = undefined;
    const { from, to } = this.#envelope;
    const about = { from, to, size: this.#size, receivedAt: new Date().toISOString() };
    await Deno.writeTextFile(`${this.#path}.json`, JSON.stringify(about, null, 2) + "\n");
    await Deno.rename(`${this.#path}.eml.part`, `${this.#path}.eml`);
  }

  async abort(): Promise<void> {
    if (!this.#file) return;
    this.#file.close();
    this.#file = undefined;
    await Deno.remove(`${this.#path}.eml.part`);
  }

  #open(): Promise<Deno.FsFile> {
    return Deno.open(`${this.#path}.eml.part`, { write: true, createNew: true });
  }
}
