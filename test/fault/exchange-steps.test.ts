/** Every service, killed between any two steps that a crash could fall between. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Step } from "../../src/steps.ts";
import { digestsOf, makeDataDirectory, runExchange, type Outcome } from "../support/exchange.ts";

interface Kill {
  readonly step: Step;
  readonly nth: number;
}

const sinkSteps = ["sink.written", "flow.applied", "flow.acknowledged"] as const;
/** The engine comes to those of a queue twice a batch: with its journal, then with its output. */
const engineKills: readonly Kill[] = [
  { step: "queue.appended", nth: 1 },
  { step: "queue.durable", nth: 1 },
  { step: "buffer.durable", nth: 1 },
  { step: "bus.committed", nth: 2 },
  { step: "flow.applied", nth: 2 },
  { step: "flow.acknowledged", nth: 2 },
  { step: "queue.appended", nth: 2 },
  { step: "queue.durable", nth: 2 },
];

const preload = pathToFileURL(path.join(import.meta.dirname, "../support/kill-at-step.ts")).href;

/** The digests of undisturbed runs, by the arguments that decide them. */
const undisturbed = new Map<string, Promise<Outcome>>();

test("G5: killed at any step, the exchange ends with the rows of a run without a kill", async (t) => {
  for (const [index, engineKill] of engineKills.entries()) {
    const sinkStep = sinkSteps[index % sinkSteps.length] ?? "sink.written";
    const nth = index < sinkSteps.length ? 1 : 2;
    const kills = {
      feed: { step: "bus.committed", nth: nth * 4 },
      "matching-engine": engineKill,
      settlement: { step: sinkStep, nth },
      analytics: { step: sinkStep, nth: nth + 1 },
    } as const;
    const where = `${engineKill.step}, time ${engineKill.nth}`;
    await t.test(`engine at ${where}; sinks at ${sinkStep}, time ${nth}`, async (inner) => {
      await expectSameEnd(makeDataDirectory(inner), ["--count", 6000], kills);
    });
  }
});

test("G5: killed while it writes a snapshot, the engine goes on from the one before", async (t) => {
  for (const step of ["snapshot.written", "snapshot.renamed"] as const) {
    await t.test(step, async (inner) => {
      const kills = { "matching-engine": { step, nth: 2 } };
      await expectSameEnd(makeDataDirectory(inner), ["--count", 45_000], kills);
    });
  }
});

async function expectSameEnd(
  data: string,
  args: readonly (string | number)[],
  kills: Readonly<Record<string, Kill>>,
): Promise<void> {
  const marks = path.join(data, "marks");
  const run = path.join(data, "run");
  fs.mkdirSync(marks);
  const expected = undisturbed.get(String(args)) ?? runExchange(path.join(data, "calm"), args);
  undisturbed.set(String(args), expected);
  const calm = await expected;
  assert.equal(calm.code, 0, calm.output);
  const outcome = await runExchange(run, args, {
    env: {
      NODE_OPTIONS: `--import ${preload}`,
      GAPLESS_TEST_KILLS: JSON.stringify(kills),
      GAPLESS_TEST_MARKS: marks,
    },
  });
  assert.equal(outcome.code, 0, outcome.output);
  assert.deepEqual(fs.readdirSync(marks).sort(), Object.keys(kills).sort(), "not all were killed");
  assert.equal(digestsOf(outcome), digestsOf(calm), outcome.output);
}
