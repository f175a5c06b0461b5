/**
 * npm run bench -- [NAME ...] [--json] [--small]
 *
 * Runs the benchmarks named, or all, one after the other. `--json` prints a line a figure.
 */
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import type { Figure, Size } from "./figure.ts";

type Bench = (size: Size) => Promise<Figure[]>;

const notBenches = new Set(["bench.ts", "figure.ts", "samples.ts"]);
const known = fs
  .readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith(".ts") && !notBenches.has(name))
  .map((name) => path.basename(name, ".ts"));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, small: { type: "boolean" } },
});

const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}. There are: ${known.join(", ")}.`);
  process.exit(2);
}

for (const name of positionals.length > 0 ? positionals : known) {
  const module = (await import(`./${name}.ts`)) as Record<string, Bench | undefined>;
  const bench = module[name];
  if (bench === undefined) throw new Error(`bench/${name}.ts does not export ${name}`);
  for (const figure of await bench(values.small === true ? "small" : "full")) {
    console.log(values.json === true ? JSON.stringify(figure) : describe(figure));
  }
}

function describe({ bench, value, unit, reference, ratio, ...fields }: Figure): string {
  const compared = reference === undefined ? "" : `  reference ${reference}  ratio ${ratio ?? ""}`;
  const rest = Object.entries(fields).map(([name, field]) => `  ${name} ${String(field)}`);
  return `${bench.padEnd(26)} ${String(value).padStart(8)} ${unit}${compared}${rest.join("")}`;
}
