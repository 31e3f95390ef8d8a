/** How a sink misbehaves on purpose: replies, delays and lost connections by stage of the dialog. */
import { duration, Unfit } from "../config/kinds.ts";

/** Moments at which a sink answers; `dot` is the end of the content. */
export const STAGES = ["greeting", "ehlo", "mail", "rcpt", "data", "dot"] as const;
export type Stage = typeof STAGES[number];

/** What happens at one stage. */
export interface StageRules {
  /** Replies in place of the normal one, each with its share of all cases, 0 to 1. */
  readonly replies: readonly { readonly code: number; readonly probability: number }[];
  /** Milliseconds before the reply. */
  readonly delay: number;
  /** Share of cases in which the connection is closed instead of a reply. */
  readonly drop: number;
}

export type SinkRules = ReadonlyMap<Stage, StageRules>;

/** A rule that can't be read; the message says what was expected. */
export class RuleError extends Error {
  override readonly name = "RuleError";
}

/** The rules as given on the command line. */
export interface RuleTexts {
  /** `stage=code[:probability]` */
  readonly reply?: readonly string[];
  /** `stage=duration` */
  readonly delay?: readonly string[];
  /** `stage[:probability]` */
  readonly drop?: readonly string[];
}

/**
 * Reads rules.
 * @throws {RuleError} for the first that is wrong, and where the replies of a stage add up to more than 1.
 */
export function parseRules(texts: RuleTexts): SinkRules {
  const rules = new Map<Stage, StageRules>();
  const change = (stage: Stage, more: Partial<StageRules>) => {
    rules.set(stage, { ...(rules.get(stage) ?? { replies: [], delay: 0, drop: 0 }), ...more });
  };
  for (const text of texts.reply ?? []) {
    const [, name, code, share] = /^(\w+)=(\d{3})(?::(.+))?$/.exec(text) ??
      wrong("reply", text, "stage=code[:probability], such as rcpt=450:0.1");
    const stage = stageOf(name!, "reply", text);
    if (!/^[2-5]/.test(code!)) wrong("reply", text, "a code from 200 to 599");
    const replies = [...(rules.get(stage)?.replies ?? []), {
      code: Number(code),
      probability: probabilityOf(share, "reply", text),
    }];
    if (replies.reduce((sum, { probability }) => sum + probability, 0) > 1 + 1e-9) {
      wrong("reply", text, `probabilities that add up to 1 at most for ${stage}`);
    }
    change(stage, { replies });
  }
  for (const text of texts.delay ?? []) {
    const [, name, time] = /^(\w+)=(.+)$/.exec(text) ??
      wrong("delay", text, "stage=duration, such as dot=500ms");
    try {
      change(stageOf(name!, "delay", text), { delay: duration(0).parse(time!) });
    } catch (error) {
      if (error instanceof Unfit) wrong("delay", text, `stage=duration with ${error.message}`);
      throw error;
    }
  }
  for (const text of texts.drop ?? []) {
    const [, name, share] = /^(\w+)(?::(.+))?$/.exec(text) ??
      wrong("drop", text, "stage[:probability], such as dot:0.01");
    change(stageOf(name!, "drop", text), { drop: probabilityOf(share, "drop", text) });
  }
  return rules;
}

function stageOf(name: string, option: string, text: string): Stage {
  return STAGES.find((stage) => stage === name) ??
    wrong(option, text, `one of the stages ${STAGES.join(", ")}`);
}

function probabilityOf(share: string | undefined, option: string, text: string): number {
  if (share === undefined) return 1;
  const value = /^(\d+(\.\d+)?|\.\d+)$/.test(share) ? Number(share) : NaN;
  return value >= 0 && value <= 1 ? value : wrong(option, text, "a probability from 0 to 1");
}

function wrong(option: string, text: string, expected: string): never {
  throw new RuleError(`--${option} ${text}: expected ${expected}`);
}
