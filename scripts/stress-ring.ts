/** The ring's scenes at random, within wider bounds than `npm test` has time for. */
import assert from "node:assert/strict";
import { scenes } from "../test/support/interleave/repertoire.ts";
import { wander } from "../test/support/interleave/scheduler.ts";
import { Theatre, type Scene } from "../test/support/interleave/scenes.ts";

const runsPerScene = 1000;
/** How often one is put aside that could go on: by turns, because few and many find other bugs. */
const preemptions = [3, 5, 8, 13];

/** Plays until the time is up; each seed is a round of all scenes. Throws where one goes wrong. */
export function stressRing(minutes: number, seed: number): void {
  const deadline = performance.now() + minutes * 60_000;
  const theatres = Object.values(scenes).flatMap((scene: Scene) =>
    [false, true].map((isFine) => ({ scene, isFine, theatre: new Theatre(scene, [], isFine) })),
  );
  for (let round = seed; performance.now() < deadline; round++) {
    let runs = 0;
    for (const { scene, isFine, theatre } of theatres) {
      if (performance.now() > deadline) break;
      const { failure, ...found } = wander(
        theatre.stage,
        theatre.begin,
        {
          preemptions: preemptions[round % preemptions.length] ?? 3,
          kills: scene.mortal?.length ?? 0,
          runsMax: runsPerScene,
        },
        Math.imul(round, runsPerScene),
      );
      runs += found.runs;
      if (failure === undefined) continue;
      const how = `ring seed ${round}, ${scene.name}, ${isFine ? "fine" : "coarse"}`;
      assert.fail(`${how}: ${failure.reason}\n${failure.schedule}\n${failure.trace}`);
    }
    console.log(`ring seed ${round}: ${runs} schedules`);
  }
}
