import assert from "node:assert/strict";
import test from "node:test";
import zlib from "node:zlib";
import fc from "fast-check";
import { crc32, memoryOf } from "gapless/tlv";

test("the checksum is that of zlib, wherever the bytes begin and end", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(100),
      fc.nat(100),
      (bytes, one, other) => {
        const from = Math.min(one, other, bytes.length);
        const to = Math.min(Math.max(one, other), bytes.length);
        const expected = zlib.crc32(bytes.subarray(from, to));
        assert.equal(crc32(memoryOf(bytes).view, from, to) >>> 0, expected);
      },
    ),
    { numRuns: 1000 },
  );
});

test("a checksum goes on where another ended", () => {
  const bytes = Uint8Array.from({ length: 61 }, (_, index) => index * 37);
  const { view } = memoryOf(bytes);
  for (let middle = 0; middle <= bytes.length; middle++) {
    const crc = crc32(view, middle, bytes.length, crc32(view, 0, middle));
    assert.equal(crc >>> 0, zlib.crc32(bytes));
  }
});
