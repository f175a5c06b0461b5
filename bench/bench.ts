/** Runs the benchmarks named, or all, one after the other: `npm run bench -- --help`. */
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import type { Figure, Size } from "./figure.ts";

type Bench = (size: Size) => Promise<Figure[]>;

const notBenches = new Set(["bench.ts", "figure.ts", "samples.ts", "worker.ts"]);
const known = fs
  .readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith(".ts") && !notBenches.has(name))
  .map((name) => path.basename(name, ".ts"));

const usage = `npm run bench -- [NAME ...] [--json] [--small]

Runs the benchmarks named, or all, one after the other: ${known.join(", ")}.

  --json   print a line of JSON a figure
  --small  the sizes of the tests, which prove that a benchmark runs and measure nothing
  --help   print this`;

const { values, positionals } = readCommandLine();
if (values.help === true) {
  console.log(usage);
  process.exit();
}
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0) refuse(`There is no benchmark ${unknown.join(", ")}.`);

for (const name of positionals.length > 0 ? positionals : known) {
  const module = (await import(`./${name}.ts`)) as Record<string, Bench | undefined>;
  const bench = module[name];
  if (bench === undefined) throw new Error(`bench/${name}.ts does not export ${name}`);
  for (const figure of await bench(values.small === true ? "small" : "full")) {
    console.log(values.json === true ? JSON.stringify(figure) : describe(figure));
  }
}

function readCommandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean" },
        small: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function refuse(problem: string): never {
  console.error(`${problem}\n\n${usage}`);
  process.exit(2);
}

function describe({ bench, value, unit, reference, ratio, ...fields }: Figure): string {
  const compared = reference === undefined ? "" : `  reference ${reference}  ratio ${ratio ?? ""}`;
  const rest = Object.entries(fields).map(([name, field]) => `  ${name} ${String(field)}`);
  return `${bench.padEnd(26)} ${String(value).padStart(8)} ${unit}${compared}${rest.join("")}`;
}
