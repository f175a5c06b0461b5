/** Runs all tests, or those whose files are given, and ends with what did not run and why. */
import { spec } from "node:test/reporters";
import { run } from "node:test";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

// Test files and the processes that they start load the same modules again and again.
process.env["NODE_COMPILE_CACHE"] ??= path.join(os.tmpdir(), "node-compile-cache");

const roots = ["test/unit", "test/fault", "test/integration"];

const given = process.argv.slice(2);
const files =
  given.length > 0
    ? given
    : [
        "test/tidy.test.ts",
        ...roots.flatMap((root) =>
          fs
            .readdirSync(root, { recursive: true, encoding: "utf8" })
            .filter((name) => name.endsWith(".test.ts"))
            .map((name) => path.join(root, name)),
        ),
      ];

const skipped: string[] = [];
let passed = 0;
let failed = 0;

const stream = run({
  files: files.map((file) => path.resolve(file)),
  concurrency: 2,
  timeout: 120_000,
  execArgv: ["--conditions=source"],
});
stream.on("test:pass", ({ name, skip, details }) => {
  if (skip !== undefined) skipped.push(`${name}: ${String(skip)}`);
  else if (details.type !== "suite") passed++;
});
stream.on("test:fail", () => failed++);
stream.compose(spec).pipe(process.stdout);
stream.on("end", () => {
  process.exitCode = failed > 0 ? 1 : 0;
  process.on("exit", () => {
    if (skipped.length > 0) console.log(`\nDid not run:\n  ${skipped.join("\n  ")}`);
    console.log(`\n${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  });
});
