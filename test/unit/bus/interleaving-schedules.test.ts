/**
 * All schedules of small scenes, on the real code of the ring: see test/support/interleave/.
 *
 * One thread plays all parties and stops at each atomic operation, and, where a party may be
 * killed, at each plain store. It tries every schedule in which one or two parties are put aside
 * that could go on, and random ones beyond. Forbidden are torn, lost, duplicated, reordered and
 * invented messages and parties that are stuck.
 *
 * What it does not see: a processor that makes stores visible in another order than the program
 * has them. `SEED=…` repeats the random part.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { scenes, type SceneName } from "../../support/interleave/repertoire.ts";
import { explore, wander, type Findings } from "../../support/interleave/scheduler.ts";
import { Theatre, type Scene } from "../../support/interleave/scenes.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const randomRuns = 300;

/** What can be searched in a second: for more there is `npm run stress`. */
const preemptionsOf: Readonly<Record<SceneName, number>> = {
  spsc: 2,
  spscBatch: 2,
  spscFull: 2,
  ending: 2,
  spmc: 1,
  mpsc: 2,
  wavering: 2,
  waveringDeath: 1,
  waveringHeir: 0,
  mpscFull: 2,
  mpmc: 1,
  dropOldest: 2,
  dropOldestShared: 1,
  failed: 2,
  failedShared: 1,
  failover: 1,
  failoverFull: 1,
  spscDeath: 1,
  mpscDeath: 1,
  mpscHeir: 0,
  mpmcDeath: 0,
  consumerDeath: 1,
  evictedDeath: 0,
  doubleDeath: 0,
  failoverDeath: 1,
  batchDeath: 0,
  dropOldestDeath: 0,
  overtakenDeath: 0,
  failedDeath: 0,
  opening: 1,
};

function expectNothing({ failure }: Findings, hint: string): void {
  if (failure === undefined) return;
  assert.fail(`${failure.reason} ${hint}\n${failure.schedule}\n${failure.trace}`);
}

for (const key of Object.keys(scenes) as SceneName[]) {
  const scene: Scene = scenes[key];
  const kills = scene.mortal?.length ?? 0;
  const preemptions = preemptionsOf[key];

  test(`in no schedule anything goes wrong with ${scene.name}`, (t) => {
    const { stage, begin } = new Theatre(scene);
    const findings = explore(stage, begin, { preemptions, kills, runsMax: 100_000 });
    expectNothing(findings, `in run ${findings.runs}`);
    assert.ok(findings.isExhaustive);
    t.diagnostic(
      `preemptions ${preemptions}, kills ${kills}: ${findings.runs} runs, ` +
        `${findings.states} states, ${findings.steps} steps`,
    );
  });

  test(`at random nothing goes wrong with ${scene.name}, also between plain stores`, (t) => {
    t.diagnostic(`SEED=${seed}`);
    const { stage, begin } = new Theatre(scene, [], true);
    const bounds = { preemptions: 5, kills, runsMax: randomRuns };
    const findings = wander(stage, begin, bounds, seed);
    expectNothing(findings, `SEED=${findings.seed}`);
  });
}
