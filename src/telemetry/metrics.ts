/** Counters, gauges and histograms with Prometheus text output (version 0.0.4). */

type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly lines: () => string[];
}

/** A value that only grows. */
export interface Counter {
  add(amount?: number, labels?: Labels): void;
}

/** A distribution over fixed bucket borders. */
export interface Histogram {
  observe(value: number): void;
}

/** The metrics of one process; made once by the composition root and handed down. */
export class Metrics {
  readonly #families = new Map<string, Family>();

  /** Registers a counter. The label sets in use must be few: never an address or a queue id. */
  counter(name: string, help: string): Counter {
    const values = new Map<string, number>();
    this.#register({
      name,
      help,
      type: "counter",
      lines: () => [...values].map(([labels, value]) => `${name}${labels} ${value}`),
    });
    return {
      add(amount = 1, labels) {
        const key = formatLabels(labels);
        values.set(key, (values.get(key) ?? 0) + amount);
      },
    };
  }

  /** Registers a gauge that is read when the metrics are written. */
  gauge(name: string, help: string, read: () => number | ReadonlyMap<string, number>, label = "state"): void {
    this.#register({
      name,
      help,
      type: "gauge",
      lines() {
        const value = read();
        if (typeof value === "number") return [`${name} ${value}`];
        return [...value].map(([key, each]) => `${name}${formatLabels({ [label]: key })} ${each}`);
      },
    });
  }

  /** Registers a histogram with the upper borders `buckets`, in rising order. */
  histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    const counts = new Array<number>(buckets.length + 1).fill(0);
    let sum = 0;
    this.#register({
      name,
      help,
      type: "histogram",
      lines() {
        let total = 0;
        const lines = buckets.map((border, i) => `${name}_bucket{le="${border}"} ${total += counts[i]!}`);
        total += counts[buckets.length]!;
        return [
          ...lines,
          `${name}_bucket{le="+Inf"} ${total}`,
          `${name}_sum ${sum}`,
          `${name}_count ${total}`,
        ];
      },
    });
    return {
      observe(value) {
        sum += value;
        const i = buckets.findIndex((border) => value <= border);
        counts[i < 0 ? buckets.length : i]!++;
      },
    };
  }

  /** Everything in Prometheus text format. */
  text(): string {
    let text = "";
    for (const family of this.#families.values()) {
      text += `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`;
      for (const line of family.lines()) text += line + "\n";
    }
    return text;
  }

  #register(family: Family): void {
    if (this.#families.has(family.name)) throw new Error(`metric ${family.name} is registered twice`);
    this.#families.set(family.name, family);
  }
}

function formatLabels(labels?: Labels): string {
  const entries = Object.entries(labels ?? {});
  if (entries.length === 0) return "";
  const escape = (value: string) =>
    value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${entries.map(([name, value]) => `${name}="${escape(value)}"`).join(",")}}`;
}
