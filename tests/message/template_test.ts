import assert from "node:assert/strict";
import fc from "fast-check";
import { compileTemplate, fillTemplate, TemplateError } from "../../src/message/template.ts";

const fill = (source: string, data: Record<string, unknown>, escape: "html" | "none" = "none") =>
  fillTemplate(compileTemplate(source), data, escape);

Deno.test("variables are filled in, nested ones by their path", () => {
  const data = { name: "Ann", order: { total: 12.5, items: [{ name: "ink" }] }, ok: true, größe: "L" };
  assert.equal(
    fill("Hi {{name}}, {{ order.total }} for {{order.items.0.name}}: {{ok}}", data),
    "Hi Ann, 12.5 for ink: true",
  );
  assert.equal(fill("{{größe}}", data), "L");
  assert.equal(fill("no variable, { {x} }", data), "no variable, { {x} }");
});

Deno.test("html is escaped, text is not", () => {
  const data = { name: `<b onclick="x">&'\`` };
  assert.equal(fill("{{name}}", data, "html"), "&lt;b onclick=&quot;x&quot;&gt;&amp;&#39;&#96;");
  assert.equal(fill("{{name}}", data), data.name);
});

Deno.test("a value is never read as a template", () => {
  fc.assert(fc.property(fc.string(), (name) => {
    assert.equal(fill("a{{name}}b", { name, secret: "s" }), `a${name}b`);
  }));
  assert.equal(fill("{{name}}", { name: "{{secret}}", secret: "s" }), "{{secret}}");
});

Deno.test("a missing variable fails by name; inherited properties are no data", () => {
  const data = { list: ["a"], text: "abc", nothing: null, object: {} };
  for (
    const name of ["missing", "list.length", "list.1", "text.length", "nothing", "object", "list"].concat(
      ["constructor", "__proto__", "toString", "object.constructor.name", "list.push"],
    )
  ) {
    assert.throws(() => fill(`{{${name}}}`, data), (error: unknown) => {
      return error instanceof TemplateError && error.message.includes(`{{${name}}}`);
    }, name);
  }
});

Deno.test("what is no variable is refused before anything is filled in", () => {
  for (
    const source of [
      "{{name",
      "{{}}",
      "{{ 1 + 1 }}",
      "{{a..b}}",
      "{{a()}}",
      "{{#each x}}",
      "<%= x %> {{{x}}}",
    ]
  ) {
    assert.throws(() => compileTemplate(source), TemplateError, source);
  }
});
