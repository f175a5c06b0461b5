/** Holds spec/tlv.md to the code: every table of fields, the domains and the example. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { defaultChecksums, domains, layouts, type DomainName, type Fields } from "gapless/tlv";
import { typesCarriedBy } from "../../../src/tlv/domain.ts";
import { headerBytes, headerFields } from "../../../src/tlv/layout.ts";

const directory = path.join(import.meta.dirname, "../../../spec");
const spec = fs.readFileSync(path.join(directory, "tlv.md"), "utf8");

function section(title: string): string {
  const found = spec.split(/^##+ /m).find((it) => it.startsWith(title));
  assert.ok(found, title);
  return found;
}

interface Row {
  readonly at: number;
  readonly bytes: number;
  readonly kind: string;
  readonly name: string;
}

function rowsOf(text: string): Row[] {
  return [...text.matchAll(/^\| (\d+) \| (\d*) ?\| (\w+) \| (?:`(\w+)`)? ?\|/gm)].map((row) => ({
    at: Number(row[1]),
    bytes: Number(row[2]),
    kind: row[3] ?? "",
    name: row[4] ?? "",
  }));
}

function checkFields(rows: readonly Row[], fields: Fields, size: number): void {
  const named = rows.filter(({ kind }) => kind !== "reserved");
  assert.deepEqual(
    named,
    Object.entries(fields).map(([name, { at, bytes, kind }]) => ({ at, bytes, kind, name })),
  );
  let end = 0;
  for (const { at, bytes, kind, name } of rows) {
    assert.equal(at, end, `${kind} ${name}`);
    end += bytes;
  }
  assert.equal(end, size);
}

test("the header of the specification is that of the code, without a hole", () => {
  checkFields(rowsOf(section("Header")), headerFields, headerBytes);
});

for (const [name, { type, bytesMin, bytesMax, fields }] of Object.entries(layouts)) {
  test(`the ${name} of the specification is that of the code, without a hole`, () => {
    const size = bytesMin === bytesMax ? bytesMin : `${bytesMin} to ${bytesMax}`;
    const text = section(`${name}: type ${type}, ${size} bytes\n`);
    checkFields(rowsOf(text), fields, bytesMin);
  });
}

test("the specification has no types that the code lacks", () => {
  const titles = [...spec.matchAll(/^### (\w+):/gm)].map(([, name]) => name);
  assert.deepEqual(titles, Object.keys(layouts));
});

test("the domains of the specification are those of the code", () => {
  const rows = [...section("Domains").matchAll(/^\| (\d) \| `(\w+)` \| ([^|]+) \| (on|off) \|/gm)];
  const specified = rows.map(([, number, name, , checksum]) => ({
    number: Number(number),
    name,
    isChecksummed: checksum === "on",
  }));
  assert.deepEqual(
    specified,
    Object.entries(domains).map(([name, number]) => ({
      number,
      name,
      isChecksummed: defaultChecksums[name as DomainName],
    })),
  );
  for (const [, , name = "", ranges = ""] of rows) {
    const isOwn = (type: number): boolean =>
      [...ranges.matchAll(/(\d+)–(\d+)/g)].some(
        ([, first, last]) => type >= Number(first) && type <= Number(last),
      );
    const carried = typesCarriedBy(name as DomainName);
    for (let type = 0; type < 256; type++) {
      const isCarried = isOwn(type) || (type >= 80 && type <= 254);
      assert.equal(carried[type], isCarried ? 1 : 0, `${name} ${type}`);
    }
  }
});

test("the example of the specification is the golden trade", () => {
  const [, hex] = /```\n([0-9a-f \n]+)```/.exec(section("Golden bytes")) ?? [];
  assert.equal(hex, fs.readFileSync(path.join(directory, "vectors/tlv/trade.hex"), "utf8"));
});
