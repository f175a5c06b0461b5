import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCount } from "../../../src/cli/display.ts";
import { describeStages, type StageSample } from "../../../src/cli/stages.ts";

function sample(name: string, progress: StageSample["progress"]): StageSample {
  return { name, state: "running", progress, restarts: 0 };
}

test("rate is what was done since the last look, lag what the stage before gave out", () => {
  const [feed, engine] = describeStages(
    [
      sample("feed", { produced: 900n, total: 1000n }),
      sample("engine", { consumed: 600n, produced: 50n, gapsFilled: 2n }),
    ],
    new Map([["engine", "feed"]]),
    new Map([
      ["feed", 400n],
      ["engine", 500n],
    ]),
    500,
  );
  assert.equal(feed?.rate, 1000);
  assert.equal(feed.share, 0.9);
  assert.equal(feed.lag, undefined);
  assert.equal(engine?.rate, 200);
  assert.equal(engine.lag, 300n);
  assert.equal(engine.gapsFilled, 2n);
});

test("a stage that has not said anything yet is not behind, and has no rate", () => {
  const [only] = describeStages(
    [sample("engine", {})],
    new Map([["engine", "feed"]]),
    new Map(),
    0,
  );
  assert.equal(only?.rate, 0);
  assert.equal(only.done, 0n);
});

test("counts are grouped by thousands", () => {
  assert.deepEqual([0n, 999n, 1000n, 1234567n].map(formatCount), [
    "0",
    "999",
    "1,000",
    "1,234,567",
  ]);
});
