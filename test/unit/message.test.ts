import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { isGaplessError } from "../../src/errors.ts";
import {
  encodedBytes,
  encodeMessage,
  isBatch,
  lastIdOf,
  messageHeaderBytes,
  packMessages,
  unpackMessages,
  type Message,
} from "../../src/message.ts";

const u64 = fc.bigInt(0n, 2n ** 64n - 1n);
const message: fc.Arbitrary<Message> = fc.record({
  id: u64,
  prevId: u64,
  timestampNs: u64,
  bytes: fc.uint8Array({ maxLength: 40 }),
});
const messages = fc.array(message, { maxLength: 12 });

function plain(list: readonly Message[]): unknown[] {
  return list.map((it) => ({ ...it, bytes: [...it.bytes] }));
}

/** Unpacks, and gives the offset that the error names where it does not. */
function unpackOrOffset(packed: Uint8Array): Message[] | number {
  try {
    return unpackMessages(packed);
  } catch (error) {
    assert.ok(isGaplessError(error, "MESSAGE_MALFORMED"), String(error));
    const offset = /offset=(\d+)/.exec(error.message)?.[1];
    assert.ok(offset !== undefined, error.message);
    return Number(offset);
  }
}

test("messages come out as they went in, all 64 bits of their ids", () => {
  fc.assert(
    fc.property(messages, (list) => {
      assert.deepEqual(plain(unpackMessages(packMessages(list))), plain(list));
    }),
  );
});

test("packed messages may lie anywhere within a larger buffer", () => {
  fc.assert(
    fc.property(messages, fc.nat(9), (list, before) => {
      const packed = packMessages(list);
      const larger = new Uint8Array(before + packed.length + 5).fill(0xff);
      larger.set(packed, before);
      const part = larger.subarray(before, before + packed.length);
      assert.deepEqual(plain(unpackMessages(part)), plain(list));
    }),
  );
});

test("the layout is the one that the header comment draws", () => {
  const packed = packMessages([
    { id: 1n, prevId: 2n, timestampNs: 3n, bytes: new Uint8Array([9, 8]) },
  ]);
  const expected = new Uint8Array(messageHeaderBytes + 2);
  expected.set([1], 0);
  expected.set([2], 8);
  expected.set([3], 16);
  expected.set([2], 24);
  expected.set([9, 8], 32);
  assert.deepEqual(packed, expected);
});

test("encoding in place says where the next message goes", () => {
  fc.assert(
    fc.property(message, fc.nat(20), (it, offset) => {
      const bytes = new Uint8Array(offset + encodedBytes(it));
      const end = encodeMessage(it, bytes, new DataView(bytes.buffer), offset);
      assert.equal(end, bytes.length);
      assert.deepEqual(plain(unpackMessages(bytes.subarray(offset))), plain([it]));
    }),
  );
});

test("messages cut off anywhere name the offset of the one that is cut", () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 6 }), (list) => {
      const packed = packMessages(list);
      let start = 0;
      for (const it of list) {
        const end = start + encodedBytes(it);
        for (const cut of [start + 1, start + messageHeaderBytes - 1, end - 1]) {
          if (cut >= end) continue;
          assert.equal(unpackOrOffset(packed.subarray(0, cut)), start);
        }
        start = end;
      }
    }),
  );
});

test("garbage parses or names an offset within it, and nothing else happens", () => {
  const zeroed = fc.uint8Array({ maxLength: 200 }).map((bytes) => {
    // Sizes of random bytes are nearly always too large: make some fit.
    for (let index = 25; index < bytes.length; index += 2) bytes[index] = 0;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), zeroed), (bytes) => {
      const result = unpackOrOffset(bytes);
      if (typeof result === "number") assert.ok(result < bytes.length);
      else assert.deepEqual(packMessages(result), bytes);
    }),
    { numRuns: 1000 },
  );
});

test("a reserved word that is not zero is refused: later versions may mean something by it", () => {
  const first = { id: 1n, prevId: 0n, timestampNs: 0n, bytes: new Uint8Array(3) };
  const packed = packMessages([first, { ...first, id: 2n, prevId: 1n }]);
  packed[encodedBytes(first) + 31] = 1;
  assert.equal(unpackOrOffset(packed), encodedBytes(first));
});

test("a batch is a list that is not empty, and ends with its newest message", () => {
  fc.assert(
    fc.property(messages, (list) => {
      assert.equal(isBatch(list), list.length > 0);
      if (isBatch(list)) assert.equal(lastIdOf(list), list.at(-1)?.id);
    }),
  );
});
