import assert from "node:assert/strict";
import test from "node:test";
import { systemClock } from "../../src/clock.ts";

const toleranceMs = 20n;

function offsetMs(): bigint {
  return systemClock.nowNs() / 1_000_000n - BigInt(Date.now());
}

test("now is the system's time, finer than its milliseconds", () => {
  const offset = offsetMs();
  assert.ok(offset <= toleranceMs && -offset <= toleranceMs, `offsetMs=${offset.toString()}`);
  const fractions = new Set<bigint>();
  for (let reading = 0; reading < 1000; reading++) {
    fractions.add(systemClock.nowNs() % 1_000_000n);
  }
  assert.ok(fractions.size > 1);
});

test("the monotonic clock never steps back", () => {
  let last = systemClock.monotonicNs();
  for (let reading = 0; reading < 10_000; reading++) {
    const next = systemClock.monotonicNs();
    assert.ok(next >= last);
    last = next;
  }
});

test("now follows a system clock that was set, forward and back", (context) => {
  const realNow = Date.now.bind(Date);
  for (const stepMs of [3_600_000, -86_400_000]) {
    const mock = context.mock.method(Date, "now", () => realNow() + stepMs);
    const offset = offsetMs();
    assert.ok(offset <= toleranceMs && -offset <= toleranceMs, `offsetMs=${offset.toString()}`);
    mock.mock.restore();
    const after = offsetMs();
    assert.ok(after <= toleranceMs && -after <= toleranceMs, `offsetMs=${after.toString()}`);
  }
});
