import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { RecordClock } from "../../../src/queue/record-clock.ts";

const nsPerMs = 1_000_000n;
/** As far as the clock may be from the system's. */
const slackNs = 20n * nsPerMs;

function nsOf({ high, low }: RecordClock): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function read(clock: RecordClock): bigint {
  clock.read();
  return nsOf(clock);
}

test("a record has the time of the system, to the nanosecond", async () => {
  const clock = new RecordClock();
  for (let round = 0; round < 20; round++) {
    const before = BigInt(Date.now()) * nsPerMs;
    const ns = read(clock);
    const after = BigInt(Date.now() + 1) * nsPerMs;
    assert.ok(ns >= before - slackNs && ns <= after + slackNs, `${ns}`);
    await pause(5);
  }
  const readings = new Set(Array.from({ length: 1000 }, () => read(clock) % 1000n));
  assert.ok(readings.size > 100, "the nanoseconds are not rounded to more");
});

test("time goes on over the end of its low word", async () => {
  const clock = new RecordClock();
  let last = read(clock);
  const { high } = clock;
  while (clock.high === high) {
    await pause(1);
    const before = BigInt(Date.now()) * nsPerMs;
    const ns = read(clock);
    assert.ok(ns > last && ns >= before - slackNs, `${last} ${before} ${ns}`);
    last = ns;
  }
  assert.equal(clock.high, (high + 1) | 0);
});

for (const [what, aheadNs] of [
  ["an hour", 3_600_000n * nsPerMs],
  ["400 years", 400n * 31_557_600_000n * nsPerMs],
] as const) {
  test(`time never runs backwards: what came before is ${what} ahead`, () => {
    const clock = new RecordClock();
    const ahead = BigInt(Date.now()) * nsPerMs + aheadNs + 1n;
    clock.advance(Number(ahead >> 32n), Number(ahead & 0xffff_ffffn));
    for (let count = 0; count < 3000; count++) assert.equal(read(clock), ahead);
    clock.advance(0, 0);
    assert.equal(read(clock), ahead);
  });
}
