/** Who is killed when: by the seed alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { killIntervalMs, planKills, type Victim } from "../../../src/supervise/chaos.ts";

const services = ["feed", "engine", "ledger"];
const alone: Victim[] = services.map((name) => ({ name, side: undefined }));
const sided: Victim[] = [
  { name: "ledger", side: "clearing" },
  { name: "monitor", side: undefined },
  { name: "engine", side: "venue" },
  { name: "candles", side: "clearing" },
];

test("the same seed kills the same services at the same times, another seed others", () => {
  assert.deepEqual(planKills(50, sided, 7), planKills(50, sided, 7));
  assert.notDeepEqual(planKills(50, sided, 7), planKills(50, sided, 8));
});

test("kills are spread over the run, one in each interval, and nobody is spared for long", () => {
  const kills = planKills(300, alone, 3);
  for (const [index, { atMs, services: killed, side }] of kills.entries()) {
    assert.equal(Math.floor(atMs / killIntervalMs), index);
    assert.equal(killed.length, 1);
    assert.equal(side, undefined);
  }
  for (const service of services) {
    const share = kills.filter((kill) => kill.services.includes(service)).length;
    assert.ok(share > 60 && share < 140, `${service} was killed ${share} times of 300`);
  }
});

test("each fourth kill takes all of a side at once", () => {
  const kills = planKills(300, sided, 3);
  const ofSides = kills.filter(({ side }) => side !== undefined);
  assert.deepEqual(
    ofSides,
    kills.filter((_, index) => index % 4 === 3),
  );
  const clearing = ofSides.filter(({ side }) => side === "clearing");
  for (const { services: killed } of clearing) assert.deepEqual(killed, ["ledger", "candles"]);
  assert.ok(clearing.length > 20 && clearing.length < 55, `clearing=${clearing.length}`);
  for (const { side, services: killed } of ofSides) {
    if (side === "venue") assert.deepEqual(killed, ["engine"]);
  }
});
