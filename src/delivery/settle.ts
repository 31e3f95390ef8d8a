/** Recording outcomes: what was delivered is told to the store again and again, for else it would be sent again. */
import type { Clock } from "../platform/clock.ts";
import type { Claim, Outcome, Work } from "../queue/model.ts";
import type { Log } from "../telemetry/log.ts";

/** Waits before the store is told once more, in milliseconds. */
const WAITS = [200, 1_000, 5_000];
/** A queue whose outcomes can't be recorded rests this long: each delivery would only make a duplicate. */
const REST = 30_000;

export interface SettleContext {
  readonly work: Work;
  readonly log: Log;
  readonly clock: Clock;
  /** Aborts when there is no more time. */
  readonly signal: AbortSignal;
}

/**
 * Settles a claim. Never throws: what can't be recorded goes back as it was and its queue is left alone for a while.
 * Returns whether it was recorded.
 */
export async function settleClaim(
  { work, log, clock, signal }: SettleContext,
  claim: Claim,
  outcomes: readonly Outcome[],
): Promise<boolean> {
  for (let attempt = 0;; attempt++) {
    try {
      await work.settle(claim, outcomes);
      return true;
    } catch (error) {
      const wait = WAITS[attempt];
      log.error("settle failed", {
        id: claim.message.id,
        queue: claim.envelope.queue,
        error: error instanceof Error ? error.message : String(error),
        outcome: outcomes[0]?.reply,
        retry: wait !== undefined,
      });
      // Without the lease the rows belong to somebody else, who tries on.
      if (wait !== undefined && !signal.aborted && work.mayDeliver()) {
        await clock.sleep(wait, signal).catch(() => {});
        continue;
      }
      work.release(claim, "local fault");
      work.pause(claim.envelope.queue, REST);
      return false;
    }
  }
}
