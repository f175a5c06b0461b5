import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import type { Pass } from "./fan-in-hot-path.ts";

const program = path.join(import.meta.dirname, "fan-in-hot-path.ts");
const run = promisify(execFile);

for (const sources of [4, 64]) {
  test(`merging ${sources} sources allocates nothing`, async () => {
    const values = ["--conditions=source", program, String(sources), "1"];
    const { stdout } = await run(process.execPath, values);
    const passes = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Pass);
    // Compiling and measuring take some bytes in some passes; a message would take them in all.
    assert.ok(
      passes.some(({ grownBytes, collections }) => grownBytes < 4096 && collections === 0),
      stdout,
    );
  });
}
