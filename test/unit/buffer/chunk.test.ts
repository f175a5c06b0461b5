import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  chunkBytesMax,
  chunkHeaderBytes,
  compressChunk,
  countOfChunk,
  expandChunk,
  extentBefore,
  joinChunks,
  packChunks,
  stampExtent,
  unpackChunk,
} from "../../../src/buffer/chunk.ts";
import { hasCode, makeMessage, makeMessages } from "./fixture.ts";

const sizes = fc.array(fc.oneof(fc.nat(300), fc.nat(chunkBytesMax * 2)), { maxLength: 60 });

function messagesOf(payloadSizes: readonly number[]) {
  return payloadSizes.map((size, index) => makeMessage(BigInt(index + 1), BigInt(index), size));
}

test("packing into chunks and unpacking them gives the messages back, in bounded chunks", () => {
  fc.assert(
    fc.property(sizes, (payloadSizes) => {
      const messages = messagesOf(payloadSizes);
      const chunks = packChunks(messages);
      assert.deepEqual(
        chunks.flatMap((chunk) => unpackChunk(chunk.bytes)),
        messages,
      );
      for (const chunk of chunks) {
        const unpacked = unpackChunk(chunk.bytes);
        assert.equal(chunk.prevId, unpacked[0]?.prevId);
        assert.equal(chunk.lastId, unpacked.at(-1)?.id);
        assert.equal(countOfChunk(chunk.bytes), unpacked.length);
        assert.ok(chunk.bytes.length <= chunkBytesMax || unpacked.length === 1);
      }
    }),
  );
});

test("joining chunks changes their number, never their messages", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 5 }), (payloadSizes, step) => {
      const messages = messagesOf(payloadSizes);
      const appends = [];
      for (let index = 0; index < messages.length; index += step) {
        appends.push(...packChunks(messages.slice(index, index + step)));
      }
      const joined = joinChunks(appends);
      assert.deepEqual(
        joined.flatMap((chunk) => unpackChunk(chunk.bytes)),
        messages,
      );
      for (const [index, chunk] of joined.entries()) {
        assert.equal(chunk.prevId, joined[index - 1]?.lastId ?? 0n);
        const next = joined[index + 1];
        const together = chunk.bytes.length + (next?.bytes.length ?? Infinity) - chunkHeaderBytes;
        assert.ok(chunk.bytes.length <= chunkBytesMax || unpackChunk(chunk.bytes).length === 1);
        assert.ok(together > chunkBytesMax, "neighbours that fit together are still apart");
      }
    }),
  );
});

test("compressing a chunk and expanding it gives it back, and what came before it", () => {
  fc.assert(
    fc.property(sizes, fc.bigInt({ min: 0n, max: 2n ** 62n }), (payloadSizes, before) => {
      for (const chunk of packChunks(messagesOf(payloadSizes))) {
        const behind = stampExtent(chunk, { messages: before, bytes: before * 2n });
        assert.equal(behind.messages, before + BigInt(countOfChunk(chunk.bytes)));
        const compressed = compressChunk(chunk.bytes);
        assert.ok(compressed.length <= chunk.bytes.length);
        assert.deepEqual(extentBefore(compressed), { messages: before, bytes: before * 2n });
        assert.deepEqual(expandChunk(compressed), chunk.bytes);
      }
    }),
  );
});

test("G7: bytes that are no chunk are an error, not messages", () => {
  const [chunk] = packChunks(makeMessages(0n, 3));
  assert.ok(chunk);
  const wrongCount = chunk.bytes.slice();
  wrongCount[0] = 4;
  const noKind = chunk.bytes.slice();
  noKind[4] = 2;
  const notCompressed = chunk.bytes.slice();
  notCompressed[4] = 1;
  assert.throws(() => expandChunk(notCompressed), hasCode("MESSAGE_MALFORMED"));
  const compressed = compressChunk(packChunks(makeMessages(0n, 100))[0]?.bytes ?? chunk.bytes);
  assert.throws(() => unpackChunk(compressed), hasCode("MESSAGE_MALFORMED"));
  assert.throws(() => expandChunk(compressed.subarray(0, -1)), hasCode("MESSAGE_MALFORMED"));
  for (const bytes of [
    new Uint8Array(3),
    wrongCount,
    noKind,
    notCompressed,
    chunk.bytes.subarray(0, -1),
  ]) {
    assert.throws(() => unpackChunk(bytes), hasCode("MESSAGE_MALFORMED"));
  }
});
