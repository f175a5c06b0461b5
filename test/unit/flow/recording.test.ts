/** The encoding of what a recorder keeps. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isGaplessError } from "../../../src/errors.ts";
import {
  decodeRecording,
  encodeRecording,
  recordingBytesMax,
  type Recording,
} from "../../../src/flow/recording.ts";

function encode(recording: Recording): Uint8Array {
  const bytes = new Uint8Array(recordingBytesMax(recording) + 8).fill(0xff);
  const end = encodeRecording(recording, bytes, new DataView(bytes.buffer), 8);
  return bytes.subarray(8, end);
}

test("a recording is read as it was written", () => {
  const recordings = fc.record({
    ring: fc.nat(2 ** 32 - 1),
    producer: fc.nat(63),
    sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    sentNs: fc.nat(2 ** 53 - 1),
    topic: fc.string({ maxLength: 100, unit: "grapheme-ascii" }),
    missingBefore: fc.constantFrom(
      undefined,
      "skipped" as const,
      "overwritten" as const,
      "withdrawn" as const,
    ),
    bytes: fc.uint8Array({ maxLength: 300 }),
  });
  fc.assert(
    fc.property(recordings, (recording) => {
      const { bytes, ...rest } = decodeRecording(encode(recording));
      assert.deepEqual({ ...rest, bytes: Uint8Array.from(bytes) }, { ...recording });
    }),
  );
});

test("bytes that are no recording are refused", () => {
  const bytes = encode({
    ring: 1,
    producer: 0,
    sequence: 1,
    sentNs: 0,
    topic: "trade.btc",
    missingBefore: undefined,
    bytes: new Uint8Array(0),
  });
  const isRefused = (error: unknown): boolean => isGaplessError(error, "MESSAGE_MALFORMED");
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeRecording(bytes.subarray(0, length)), isRefused);
  }
  assert.throws(() => decodeRecording(new Uint8Array(100)), isRefused);
});
