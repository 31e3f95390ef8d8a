/** The environment of this process: variables, files that hold their values, the machine's name. */

/** Everything the settings are read from. */
export function processEnvironment() {
  return {
    read: (name: string): string | undefined => Deno.env.get(name),
    /** Undefined where only single variables may be read (`--allow-env=EPOXI_*`): Deno then lists none. */
    names(): string[] | undefined {
      try {
        return Object.keys(Deno.env.toObject());
      } catch (error) {
        if (error instanceof Deno.errors.NotCapable) return undefined;
        throw error;
      }
    },
    readFile: (path: string): string => Deno.readTextFileSync(path),
    hostname: machineName(),
    terminal: Deno.stdout.isTerminal(),
  };
}

function machineName(): string {
  try {
    return Deno.hostname();
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return "localhost";
    throw error;
  }
}
