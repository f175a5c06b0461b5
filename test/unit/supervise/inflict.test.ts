/** Kills are carried out, however those who are killed die. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Kill } from "../../../src/supervise/chaos.ts";
import { inflict, type Mortal } from "../../../src/supervise/inflict.ts";

/** Has died so many milliseconds after it was killed, and is at work again right then. */
class Dying implements Mortal {
  readonly entry: { readonly name: string };
  readonly state = "running";
  readonly hasProgressed = true;
  pid = 1;
  deaths = 0;
  private readonly dyingMs: number;

  constructor(name: string, dyingMs: number) {
    this.entry = { name };
    this.dyingMs = dyingMs;
  }

  kill(): void {
    this.deaths++;
    setTimeout(() => this.pid++, this.dyingMs).unref();
  }
}

test("a side of which one is back at work before another one has died is killed again", async () => {
  const services = [new Dying("quick", 5), new Dying("slow", 60), new Dying("spared", 0)];
  const kill: Kill = { services: ["quick", "slow"], side: "venue", atMs: 0 };
  const told: number[] = [];
  const over = AbortSignal.timeout(5000);
  await inflict([kill, kill, kill], services, (_, index) => void told.push(index), over);
  assert.deepEqual(told, [0, 1, 2]);
  assert.deepEqual(
    services.map(({ deaths }) => deaths),
    [3, 3, 0],
  );
});

test("an end of the run is not waited through", async () => {
  const over = new AbortController();
  const immortal = new Dying("immortal", 1e9);
  const kill: Kill = { services: ["immortal"], side: undefined, atMs: 0 };
  await inflict([kill, kill], [immortal], () => over.abort(), over.signal);
  assert.equal(immortal.deaths, 1);
});
