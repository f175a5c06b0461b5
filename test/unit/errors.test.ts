import assert from "node:assert/strict";
import test from "node:test";
import {
  assert as assertNoBug,
  describeError,
  errorCodes,
  GaplessError,
  isGaplessError,
} from "../../src/errors.ts";

test("every code has one advice, and its error carries both", () => {
  assert.ok(errorCodes.size > 10);
  for (const [code, advice] of errorCodes) {
    assert.match(code, /^[A-Z]+(_[A-Z]+)*$/);
    assert.ok(["retry", "repair", "stop"].includes(advice));
    const error = new GaplessError(code, "what happened");
    assert.equal(error.code, code);
    assert.equal(error.advice, advice);
    assert.equal(error.message, "what happened");
    assert.equal(error.name, "GaplessError");
    assert.ok(error instanceof Error);
  }
});

test("an error keeps its cause", () => {
  const cause = new Error("the disk says no");
  assert.equal(new GaplessError("STORAGE_FULL", "No room.", { cause }).cause, cause);
});

test("a Gapless error is told apart by its code, and from everything else", () => {
  const error: unknown = new GaplessError("DATA_TRIMMED", "Gone.");
  assert.ok(isGaplessError(error));
  assert.ok(isGaplessError(error, "DATA_TRIMMED"));
  assert.ok(isGaplessError(error, "CLOSED", "DATA_TRIMMED"));
  assert.ok(!isGaplessError(error, "CLOSED"));
  for (const other of [new Error("Gone."), { code: "DATA_TRIMMED" }, "DATA_TRIMMED", null]) {
    assert.ok(!isGaplessError(other));
  }
});

test("whatever was thrown has a text", () => {
  assert.equal(describeError(new TypeError("no such thing")), "no such thing");
  assert.equal(describeError("plain"), "plain");
  assert.equal(describeError(undefined), "undefined");
  assert.equal(describeError(null), "null");
});

test("a bug of ours is an error without a code", () => {
  assertNoBug(true, "never seen");
  assert.throws(
    () => assertNoBug(false, "the lap is behind"),
    (error) => !isGaplessError(error) && describeError(error).includes("the lap is behind"),
  );
});
