import assert from "node:assert/strict";
import test from "node:test";
import { recoveryRequestType } from "gapless/tlv";

test("a gap of fewer than 100 messages is retransmitted, a larger one takes a snapshot", () => {
  assert.equal(recoveryRequestType(1), 1);
  assert.equal(recoveryRequestType(99), 1);
  assert.equal(recoveryRequestType(100), 2);
  assert.equal(recoveryRequestType(1_000_000), 2);
});
