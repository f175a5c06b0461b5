/** Benchmarks are tests with small sizes, so they cannot rot. */
import assert from "node:assert/strict";
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
