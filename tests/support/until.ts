/** Waiting for a condition, not for time to pass. */

/**
 * Resolves with the first truthy value of `probe`, asked again and again; `between` moves the world on.
 * `within` is how long that may take, in milliseconds.
 * @throws {Error} naming `what` when it never comes.
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  between: () => void = () => {},
  within = 15_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + within;
  for (;;) {
    const value = await probe();
    if (value) return value as NonNullable<T>;
    if (performance.now() > end) throw new Error(`never within ${within} ms: ${what}`);
    between();
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
}
