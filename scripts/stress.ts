/**
 * npm run stress -- [--minutes N] [--ring-minutes N] [--seed N]
 *
 * Plays random schedules of the ring's parties for `--ring-minutes`, then runs the exchange with
 * and without chaos on new seeds, again and again, until the time is up or a run goes wrong. Every
 * seed is printed: `--seed N` begins with it.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { digestsOf, runExchange } from "../test/support/exchange.ts";
import { stressRing } from "./stress-ring.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    "ring-minutes": { type: "string", default: "2" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});

stressRing(Number(values["ring-minutes"]), Number(values.seed));

const deadline = performance.now() + Number(values.minutes) * 60_000;
const count = 40_000;
const kills = 15;
let runs = 0;

for (let seed = Number(values.seed); performance.now() < deadline; seed++) {
  const data = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-stress-"));
  const orders = ["--count", count, "--seed", seed];
  const calm = await runExchange(path.join(data, "calm"), orders);
  assert.equal(calm.code, 0, calm.output);
  const chaos = await runExchange(path.join(data, "chaos"), [
    ...orders,
    ...["--chaos", kills, "--chaos-seed", seed],
  ]);
  // The data of a run that went wrong stays where it is.
  assert.equal(chaos.code, 0, `seed=${seed} data=${data}\n${chaos.output}`);
  assert.equal(digestsOf(chaos), digestsOf(calm), `seed=${seed} data=${data}\n${chaos.output}`);
  fs.rmSync(data, { recursive: true });
  runs++;
  console.log(`seed ${seed}: ${kills} kills, gaps ${chaos.audit.get("gaps filled") ?? "none"}`);
}
console.log(`${runs} passed, 0 failed`);
