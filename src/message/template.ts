/**
 * Text with `{{variable}}` in it. Nothing is ever executed: a name is looked up among the own properties of the data,
 * and that is all a template can do.
 */

/** A template that can't be read, or a variable without a value. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** Data for the variables; may be nested, for names such as `order.items.0.name`. */
export type TemplateData = Readonly<Record<string, unknown>>;

/** A template ready to be filled in any number of times. */
export interface Template {
  /** Literal texts and, between each two of them, the path of one variable. */
  readonly texts: readonly string[];
  readonly variables: readonly (readonly string[])[];
}

const NAME = /^[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)*$/u;

/** @throws {TemplateError} when a `{{` is not closed, or what stands inside is no name. */
export function compileTemplate(source: string): Template {
  const texts: string[] = [];
  const variables: string[][] = [];
  let rest = 0;
  for (let open = source.indexOf("{{"); open >= 0; open = source.indexOf("{{", rest)) {
    const close = source.indexOf("}}", open + 2);
    if (close < 0) throw new TemplateError(`"${excerpt(source.slice(open))}" is not closed by }}`);
    const name = source.slice(open + 2, close).trim();
    if (!NAME.test(name)) {
      throw new TemplateError(
        `"{{${excerpt(name)}}}" is no variable: expected a name such as {{name}} or {{order.total}}`,
      );
    }
    texts.push(source.slice(rest, open));
    variables.push(name.split("."));
    rest = close + 2;
  }
  texts.push(source.slice(rest));
  return { texts, variables };
}

/**
 * Fills a template. `html` escapes every value for HTML text and quoted attributes.
 * @throws {TemplateError} naming a variable that has no value, or one that is no text, number or boolean.
 */
export function fillTemplate(template: Template, data: TemplateData, escape: "html" | "none"): string {
  let filled = template.texts[0] ?? "";
  template.variables.forEach((path, i) => {
    const value = lookUp(data, path);
    filled += (escape === "html" ? escapeHtml(value) : value) + template.texts[i + 1]!;
  });
  return filled;
}

function lookUp(data: TemplateData, path: readonly string[]): string {
  let value: unknown = data;
  for (const name of path) {
    // Of a list only its entries are data; `length` is an own property, but nobody put it there.
    const isData = typeof value === "object" && value !== null && Object.hasOwn(value, name) &&
      (!Array.isArray(value) || /^\d+$/.test(name));
    if (!isData) throw new TemplateError(`variable {{${path.join(".")}}} has no value`);
    value = (value as Record<string, unknown>)[name];
  }
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return String(value);
  }
  throw new TemplateError(`variable {{${path.join(".")}}} is no text, number or boolean`);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (char) => ENTITIES[char]!);
}

function excerpt(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
