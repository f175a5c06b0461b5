/** What the interleavings are worth: bugs that are planted in a copy of the ring are found. */
import assert from "node:assert/strict";
import test from "node:test";
import { plantedBugs } from "../../support/interleave/planted.ts";
import { scenes } from "../../support/interleave/repertoire.ts";
import { search, wander } from "../../support/interleave/scheduler.ts";
import { Theatre, type Scene } from "../../support/interleave/scenes.ts";

/** Beyond so many schedules in order, it is looked for at random: the same ones each time. */
const orderedRuns = 2500;
const randomRuns = 12_000;
const seed = 1;

for (const { name, edits, scene: key, isFine = false, outcome } of plantedBugs) {
  test(`it is found that ${name}`, (t) => {
    const scene: Scene = scenes[key];
    const { stage, begin } = new Theatre(scene, edits, isFine);
    const kills = scene.mortal?.length ?? 0;
    const ordered = search(stage, begin, { preemptions: 2, kills, runsMax: orderedRuns });
    const { failure } =
      ordered.failure === undefined
        ? wander(stage, begin, { preemptions: 4, kills, runsMax: randomRuns }, seed)
        : ordered;
    assert.ok(failure !== undefined, "nobody has noticed");
    assert.match(failure.reason, outcome);
    t.diagnostic(`${failure.reason.slice(0, 80)}: ${failure.schedule}`);
  });
}
