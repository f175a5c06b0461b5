import assert from "node:assert/strict";
import test from "node:test";
import {
  describeMessage,
  headerBytes,
  isGaplessError,
  layouts,
  memoryOf,
  messageBytesMax,
  TlvBuilder,
  tlvBytes,
  TlvReader,
  valueBytesMax,
} from "gapless/tlv";

const tradeMessageBytes = headerBytes + tlvBytes(layouts.trade.bytesMin);

/** Memory that has been used before. */
function usedMemory(size: number): ReturnType<typeof memoryOf> {
  return memoryOf(new Uint8Array(size).fill(0xa5));
}

function marketData(): TlvBuilder {
  return new TlvBuilder({ domain: "marketData", source: 7 });
}

const isRefused = (error: unknown): boolean => isGaplessError(error, "INPUT_MALFORMED");
const isTooLarge = (error: unknown): boolean => isGaplessError(error, "MESSAGE_TOO_LARGE");

test("a message takes what was foreseen, writes no byte beside it, and zeros what is not set", () => {
  const memory = usedMemory(8 + tradeMessageBytes + 8);
  const builder = marketData();
  builder.begin(memory, 8, tradeMessageBytes);
  builder.addTrade();
  assert.equal(builder.finish(), tradeMessageBytes);
  const [before, after] = [memory.bytes.subarray(0, 8), memory.bytes.subarray(-8)];
  for (const byte of [...before, ...after]) assert.equal(byte, 0xa5);
  assert.ok(memory.bytes.subarray(8 + headerBytes + 2, -8).every((byte) => byte === 0));
});

test("a builder is used again, also after a message that was not finished", () => {
  const memory = usedMemory(512);
  const builder = marketData();
  builder.begin(memory, 0, 512);
  builder.header.sequence = 9n;
  builder.addTrade().venue = 1;
  builder.begin(memory, 0, 512);
  builder.addQuote().venue = 2;
  builder.addTraceContext(3).traceState = Uint8Array.of(97, 61, 98);
  const described = describeMessage(memory, 0, builder.finish());
  assert.equal(described.sequence, "0");
  assert.deepEqual(
    described.tlvs.map((tlv) => ("name" in tlv ? tlv.name : tlv.type)),
    ["quote", "traceContext"],
  );
});

test("what does not fit is refused, and what was added before stays", () => {
  const memory = usedMemory(512);
  const builder = marketData();
  assert.throws(() => builder.begin(memory, 0, headerBytes - 1), isTooLarge);
  builder.begin(memory, 0, tradeMessageBytes + 5);
  builder.addTrade();
  assert.throws(() => builder.addQuote(), /no room for 54 bytes more: length=74 capacity=79/);
  assert.throws(() => builder.add(200, new Uint8Array(4)), isTooLarge);
  builder.add(200, new Uint8Array(3));
  assert.throws(() => builder.add(200, new Uint8Array(0)), isTooLarge);
  assert.equal(describeMessage(memory, 0, builder.finish()).tlvs.length, 2);
});

test("a domain carries its own types, the system's and the applications', and no others", () => {
  const memory = usedMemory(512);
  const builder = marketData();
  builder.begin(memory, 0, 512);
  assert.throws(() => builder.addFill(), /type 42 .* domain marketData do not carry it/);
  for (const type of [0, 20, 79, 255, 256, -1, 1.5, NaN]) {
    assert.throws(() => builder.add(type, new Uint8Array(4)), isRefused, String(type));
  }
  assert.equal(builder.length, headerBytes);
  for (const type of [3, 19, 80, 119, 120, 254]) builder.add(type, new Uint8Array(4));
  builder.addHeartbeat();
  new TlvReader().wrap(memory, 0, builder.finish());
});

test("a value of another size than its type has is refused", () => {
  const builder = marketData();
  builder.begin(usedMemory(70_000), 0, 70_000);
  for (const size of [39, 41]) {
    assert.throws(() => builder.add(1, new Uint8Array(size)), /(39|41) bytes, expected 40 to 40/);
  }
  assert.throws(() => builder.addTraceContext(225), /257 bytes, expected 32 to 256/);
  assert.throws(() => builder.addTraceContext(-1), isRefused);
  assert.throws(() => builder.add(200, new Uint8Array(valueBytesMax + 1)), isRefused);
  for (const [from, to] of [
    [5, 4],
    [-1, 4],
    [0, 9],
  ]) {
    assert.throws(() => builder.add(200, new Uint8Array(8), from, to), isRefused);
  }
  assert.equal(builder.length, headerBytes);
});

test("a value becomes extended from 256 bytes on, and may have 65,535", () => {
  const memory = usedMemory(70_000);
  const builder = marketData();
  const reader = new TlvReader();
  for (const size of [0, 1, 255, 256, 257, valueBytesMax]) {
    const value = Uint8Array.from({ length: size + 2 }, (_, index) => index * 7);
    builder.begin(memory, 16, headerBytes + tlvBytes(size));
    builder.add(200, value, 1, size + 1);
    const length = builder.finish();
    assert.equal(length, headerBytes + size + (size > 255 ? 5 : 2));
    reader.wrap(memory, 16, length);
    assert.ok(reader.next());
    const { type, valueOffset, valueLength } = reader;
    assert.deepEqual([type, valueLength], [200, size]);
    const found = memory.bytes.subarray(valueOffset, valueOffset + valueLength);
    assert.deepEqual(found, value.subarray(1, size + 1));
    assert.ok(!reader.next());
  }
});

test("a message has at most a mebibyte, whatever the room", () => {
  const memory = usedMemory(messageBytesMax + 100);
  const builder = marketData();
  builder.begin(memory, 0, messageBytesMax + 100);
  const value = new Uint8Array(valueBytesMax);
  for (let count = 0; count < 15; count++) builder.add(200, value);
  const rest = messageBytesMax - builder.length - 5;
  assert.throws(() => builder.add(200, value, 0, rest + 1), isTooLarge);
  builder.add(200, value, 0, rest);
  assert.equal(builder.finish(), messageBytesMax);
  const reader = new TlvReader();
  reader.wrap(memory, 0, messageBytesMax + 100);
  memory.view.setUint32(24, messageBytesMax - headerBytes + 1, true);
  assert.throws(() => reader.wrap(memory, 0, messageBytesMax + 100), /offset=24/);
});

test("a source is one byte", () => {
  for (const source of [-1, 256, 0.5, NaN]) {
    assert.throws(
      () => new TlvBuilder({ domain: "signal", source }),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
});

test("messages have a checksum where the policy of their domain says so", () => {
  const memory = usedMemory(64);
  for (const [domain, checksums, isOn] of [
    ["marketData", {}, false],
    ["marketData", { marketData: true }, true],
    ["signal", {}, true],
    ["execution", {}, true],
    ["system", {}, true],
    ["system", { system: false }, false],
  ] as const) {
    const builder = new TlvBuilder({ domain, source: 1, checksums });
    builder.begin(memory, 0, 64);
    builder.add(200, Uint8Array.of(1, 2, 3));
    const length = builder.finish();
    assert.equal(memory.view.getUint32(28, true) !== 0, isOn, domain);
    const reader = new TlvReader({ checksums });
    reader.wrap(memory, 0, length);
    memory.bytes[length - 1] = 4;
    if (isOn) assert.throws(() => reader.wrap(memory, 0, length), /offset=28/);
    else reader.wrap(memory, 0, length);
  }
});
