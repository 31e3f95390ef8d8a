/** One process per data directory: a lock that the system frees when the process dies, and the node's lasting id. */
import { join } from "node:path";

/** A held data directory. */
export interface DataDir {
  readonly path: string;
  readonly nodeId: string;
  release(): void;
}

/** Thrown when the data directory can't be used. */
export class DataDirError extends Error {
  override readonly name = "DataDirError";
}

/**
 * Makes `path` where it is missing, takes its lock and reads (or makes) the node id in it.
 * @throws {DataDirError} when another process holds it, or it can't be written.
 */
export async function openDataDir(
  path: string,
  options: { nodeId?: string; newId: () => string },
): Promise<DataDir> {
  let file: Deno.FsFile;
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o750 });
    file = await Deno.open(join(path, "lock"), { create: true, write: true, read: true });
  } catch (error) {
    throw new DataDirError(
      `cannot use EPOXI_DATA_DIR ${path}: ${error instanceof Error ? error.message : error}`,
    );
  }
  if (!file.tryLockSync(true)) {
    file.close();
    throw new DataDirError(
      `EPOXI_DATA_DIR ${path} is in use by another Epoxi process: stop that one, or use another`,
    );
  }
  try {
    const nodeId = options.nodeId ?? await readNodeId(join(path, "node-id"), options.newId);
    return { path, nodeId, release: () => file.close() };
  } catch (error) {
    file.close();
    throw error;
  }
}

async function readNodeId(path: string, newId: () => string): Promise<string> {
  try {
    const found = (await Deno.readTextFile(path)).trim();
    if (found) return found;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new DataDirError(`cannot read ${path}: ${error instanceof Error ? error.message : error}`);
    }
  }
  const made = newId();
  await Deno.writeTextFile(path, made + "\n");
  return made;
}
