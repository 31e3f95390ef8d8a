/** Plain tables for a terminal. */

/** One column. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/**
 * Rows as aligned lines under a head line, each ending in a line feed. What came from outside is made safe: control
 * characters would let a hostile reply or address redraw the terminal.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = [
    columns.map(({ title }) => title),
    ...rows.map((row) => row.map((cell) => printable(`${cell}`))),
  ];
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => width(row[i] ?? ""))));
  return cells.map((row) =>
    row.map((cell, i) => {
      const padding = " ".repeat(widths[i]! - width(cell));
      return columns[i]?.align === "right" ? padding + cell : cell + padding;
    }).join("  ").trimEnd() + "\n"
  ).join("");
}

/** Text without control characters and bidirectional overrides. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "?");
}

/** How long ago `time` (RFC 3339) was, in the largest fitting unit: `5m`, `3h`, `2d`; `-` for null. */
export function age(time: string | null | undefined, now: number): string {
  if (time === null || time === undefined) return "-";
  return formatSpan(now - Date.parse(time));
}

/** When `time` (RFC 3339) will be: `in 5m`, `now`; `-` where there is none. */
export function ahead(time: string | null | undefined, now: number): string {
  if (time === null || time === undefined) return "-";
  const span = Date.parse(time) - now;
  return span <= 0 ? "now" : `in ${formatSpan(span)}`;
}

function formatSpan(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)}m`;
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}

const segments = new Intl.Segmenter();

function width(text: string): number {
  let count = 0;
  for (const _ of segments.segment(text)) count++;
  return count;
}
