/** When the next attempt is made. */

/** How far a wait may be moved either way, so that what failed together is not tried together. */
const JITTER = 0.1;

/** Waits between attempts, in milliseconds; the last repeats. */
export interface RetrySchedule {
  readonly waits: readonly number[];
  readonly random: () => number;
}

/**
 * Time of the attempt after attempt number `attempts` (1 is the first), never after `expiresAt`: the envelope then
 * comes up once more, to be given up.
 */
export function nextAttemptAt(
  schedule: RetrySchedule,
  attempts: number,
  now: number,
  expiresAt: number,
): number {
  const wait = schedule.waits[Math.min(attempts, schedule.waits.length) - 1]!;
  const spread = wait * (1 + JITTER * (2 * schedule.random() - 1));
  return Math.min(now + Math.round(spread), expiresAt);
}
