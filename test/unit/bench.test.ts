/** Benchmarks are tests with small sizes, so they cannot rot. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { buffer } from "../../bench/buffer.ts";
import { bus } from "../../bench/bus.ts";
import { logging } from "../../bench/logging.ts";
import { pipeline } from "../../bench/pipeline.ts";
import { queue } from "../../bench/queue.ts";

for (const bench of [bus, queue, logging, buffer, pipeline]) {
  test(`the benchmark ${bench.name} gives figures`, async () => {
    const figures = await bench("small");
    assert.ok(figures.length > 0);
    for (const figure of figures) {
      assert.ok(figure.bench.startsWith(`${bench.name}.`), figure.bench);
      assert.ok(figure.value > 0 && figure.unit !== "", JSON.stringify(figure));
    }
  });
}

test("the benchmarks say how they are called, and what is wrong about a call", () => {
  const program = path.join(import.meta.dirname, "../../bench/bench.ts");
  const run = (...args: string[]) => {
    const node = ["--conditions=source", program, ...args];
    return spawnSync(process.execPath, node, { encoding: "utf8", timeout: 30_000 });
  };
  const usage =
    /^npm run bench -- \[NAME \.\.\.\] .*\n\n.*: buffer, bus, logging, pipeline, queue\.\n/m;
  const help = run("--help");
  assert.equal(help.status, 0, help.stderr);
  assert.match(help.stdout, usage);
  for (const [arg, problem] of [
    ["--large", /^Unknown option '--large'/],
    ["cake", /no benchmark cake/],
  ] as const) {
    const { status, stdout, stderr } = run(arg);
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(stderr, problem);
    assert.match(stderr, usage);
    assert.doesNotMatch(stderr, /\n +at /);
  }
});
