/** Holds docs/queue.md to the code, where a table of it can be checked. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { errorCodes, type ErrorCode } from "../../../src/errors.ts";
import { payloadBytesMaxOf } from "../../../src/queue/layout.ts";
import { resolveOptions } from "../../../src/queue/options.ts";
import { resolveSubscriberOptions } from "../../../src/queue/subscriber-options.ts";

const page = fs.readFileSync(path.join(import.meta.dirname, "../../../docs/queue.md"), "utf8");

/** The cells of the table whose header begins so. */
function rowsOf(header: string): string[][] {
  const [, text = ""] = page.split(`\n| ${header} |`);
  const [table = ""] = text.split("\n\n");
  const rows = table.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((line) => line.split("|").map((cell) => cell.trim().replaceAll("`", "")));
}

test("each error code of the page has the advice that the page says", () => {
  const rows = rowsOf("`error.code`");
  assert.ok(rows.length > 10);
  for (const [, code = "", advice] of rows) {
    assert.equal(errorCodes.get(code as ErrorCode), advice, code);
  }
});

/** The defaults of the options in the section, by their names. */
function defaultsIn(heading: string): Record<string, string> {
  const [, section = ""] = page.split(`\n## ${heading}\n`);
  const [, text = ""] = section.split("\n| option | default | |\n");
  const [table = ""] = text.split("\n\n");
  const rows = [...table.matchAll(/^\| `(.+?)` \| (.*?) ?\|/gm)];
  return Object.fromEntries(
    rows.map(([, name = "", byDefault = ""]) => [
      name.replaceAll("`", ""),
      byDefault.replaceAll("`", ""),
    ]),
  );
}

function textOf(value: unknown): string {
  return value === undefined ? "" : JSON.stringify(value).replaceAll('"', "");
}

test("the options of the page are those that there are, with their defaults", () => {
  const written = defaultsIn("Writing");
  const { blockMs, takeOverAfterMs, maxBytes, maxSegments, ...publisher } = resolveOptions("/", {});
  assert.equal(blockMs, 0);
  for (const limit of [takeOverAfterMs, maxBytes, maxSegments]) assert.equal(limit, Infinity);
  assert.equal(written["whenFull"], "fail");
  assert.equal(written["takeOverAfterMs"], "never");
  assert.equal(written["maxBytes, maxSegments"], "no limit");
  for (const [name, value] of Object.entries(publisher)) {
    const said = name === "segmentBytes" ? `${publisher.segmentBytes / 2 ** 20} MiB` : value;
    assert.equal(written[name], textOf(said), name);
  }
  const read = defaultsIn("Reading");
  const { spinMicros, ...subscriber } = resolveSubscriberOptions("/", {});
  assert.ok(page.includes(`looks for \`spinMicros\` (${spinMicros}) first`));
  for (const [name, value] of Object.entries(subscriber)) {
    assert.equal(read[name], textOf(value), name);
  }
});

test("the largest payload of the page is that of a segment of the default size", () => {
  const { segmentBytes } = resolveOptions("/", {});
  assert.ok(page.includes(`${payloadBytesMaxOf(segmentBytes).toLocaleString("en")} bytes`));
});
