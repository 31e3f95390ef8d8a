/** Finds the setting that a misspelled name was meant to be. */

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ_";

/** The known name with the fewest edits from `name`; undefined where all are far away. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  let nearest: string | undefined;
  let least = Math.max(3, Math.floor((name.length - PREFIX.length) / 2));
  for (const each of known) {
    const distance = editDistance(name, each);
    if (distance < least) {
      least = distance;
      nearest = each;
    }
  }
  return nearest;
}

/**
 * Names that are set though they are one edit away from a known one: for a process that may read variables by name
 * but not list them (`--allow-env=EPOXI_*`), where a misspelled name would otherwise go unnoticed.
 */
export function probeMisspelled(known: readonly string[], isSet: (name: string) => boolean): string[] {
  const all = new Set(known);
  const found = new Set<string>();
  for (const name of known) {
    for (const variant of oneEditAway(name.slice(PREFIX.length))) {
      const candidate = PREFIX + variant;
      if (!all.has(candidate) && isSet(candidate)) found.add(candidate);
    }
  }
  return [...found];
}

const PREFIX = "EPOXI_";

function* oneEditAway(word: string): Generator<string> {
  for (let i = 0; i <= word.length; i++) {
    const before = word.slice(0, i);
    const after = word.slice(i);
    if (i < word.length) yield before + after.slice(1);
    if (i < word.length - 1) yield before + after[1] + after[0] + after.slice(2);
    for (const letter of LETTERS) {
      yield before + letter + after;
      if (i < word.length && letter !== after[0]) yield before + letter + after.slice(1);
    }
  }
}

/** Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let older: number[] = [];
  let old = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = old[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, old[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, older[j - 2]! + 1);
      }
      row.push(best);
    }
    older = old;
    old = row;
  }
  return old[b.length]!;
}
