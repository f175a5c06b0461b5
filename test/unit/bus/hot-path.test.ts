import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { makeDirectory } from "../../support/bus-channel.ts";
import type { Pass } from "../../support/bus-hot-path.ts";

const program = path.join(import.meta.dirname, "../../support/bus-hot-path.ts");
const run = promisify(execFile);

const beginnings: [what: string, position: number, sequence: number][] = [
  ["in a new ring", 0, 0],
  ["once positions and sequences need all their 32 bits", 2 ** 31 - 500_000, 2 ** 32 - 300],
];

for (const [what, position, sequence] of beginnings) {
  test(`claim, commit, poll and release allocate nothing ${what}`, async (t) => {
    const values = [makeDirectory(t), position, sequence].map(String);
    const { stdout } = await run(process.execPath, ["--conditions=source", program, ...values]);
    const passes = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Pass);
    // Compiling and measuring take some bytes in some passes; a message would take them in all.
    const least = Math.min(...passes.map(({ grownBytes }) => grownBytes));
    assert.ok(least < 4096, stdout);
    assert.ok(passes.some(({ grownBytes, collections }) => grownBytes < 4096 && collections === 0));
  });
}
