import assert from "node:assert/strict";
import { test } from "node:test";
import { killIntervalMs, planKills } from "../../../src/supervise/chaos.ts";

const services = ["feed", "engine", "ledger"];

test("the same seed kills the same services at the same times, another seed others", () => {
  assert.deepEqual(planKills(50, services, 7), planKills(50, services, 7));
  assert.notDeepEqual(planKills(50, services, 7), planKills(50, services, 8));
});

test("kills are spread over the run, one in each interval, and nobody is spared for long", () => {
  const kills = planKills(300, services, 3);
  for (const [index, { atMs }] of kills.entries()) {
    assert.equal(Math.floor(atMs / killIntervalMs), index);
  }
  for (const service of services) {
    const share = kills.filter((kill) => kill.service === service).length;
    assert.ok(share > 60 && share < 140, `${service} was killed ${share} times of 300`);
  }
});
