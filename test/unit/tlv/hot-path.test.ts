/** Building and reading allocate nothing: the heap is after many messages as it was before. */
import assert from "node:assert/strict";
import test from "node:test";
import v8 from "node:v8";
import vm from "node:vm";
import {
  flyweight,
  headerBytes,
  layouts,
  memoryOf,
  TlvBuilder,
  tlvBytes,
  TlvReader,
} from "gapless/tlv";

const traceState = new TextEncoder().encode("desk=7");
const large = new Uint8Array(300).fill(7);

const size =
  headerBytes +
  tlvBytes(layouts.trade.bytesMin) +
  tlvBytes(layouts.traceContext.bytesMin + traceState.length) +
  tlvBytes(large.length);

const slots = 8;
const memory = memoryOf(new Uint8Array(slots * 512));
// With a checksum, so that it is measured too.
const checksums = { marketData: true };
const builder = new TlvBuilder({ domain: "marketData", source: 7, checksums });
const reader = new TlvReader({ checksums });
const trade = flyweight("trade");
const traceContext = flyweight("traceContext");

function build(index: number, offset: number): number {
  builder.begin(memory, offset, size);
  builder.header.sequenceLow = index;
  builder.header.timestampNsLow = -index;
  builder.header.timestampNsHigh = 395_812_434;
  const added = builder.addTrade();
  added.assetIdLow = index;
  added.assetIdHigh = -19_088_744;
  added.priceLow = index;
  added.priceHigh = 1493;
  added.volumeLow = -index;
  added.volumeHigh = -1;
  added.executedNsLow = -index;
  added.executedNsHigh = 395_812_434;
  added.venue = index & 0xffff;
  added.side = index & 1;
  const context = builder.addTraceContext(traceState.length);
  memory.bytes.set(traceState, context.traceStateOffset);
  context.traceFlags = 1;
  builder.add(200, large);
  return builder.finish();
}

/** An i32 that every field has a share in, so that no read is left out. */
function read(offset: number, length: number): number {
  reader.wrap(memory, offset, length);
  const { header } = reader;
  let sum = header.sequenceLow ^ header.timestampNsLow ^ header.timestampNsHigh;
  while (reader.next()) {
    if (reader.type === layouts.trade.type) {
      trade.wrap(memory, reader.valueOffset);
      sum ^= trade.assetIdLow ^ trade.assetIdHigh ^ trade.priceLow ^ trade.priceHigh;
      sum ^= trade.volumeLow ^ trade.volumeHigh ^ trade.executedNsLow ^ trade.executedNsHigh;
      sum ^= trade.venue ^ trade.side;
    } else if (reader.type === layouts.traceContext.type) {
      traceContext.wrap(memory, reader.valueOffset, reader.valueLength);
      sum ^= traceContext.traceFlags ^ traceContext.traceStateLength;
    } else {
      sum ^= reader.valueLength;
    }
  }
  return sum;
}

function run(messages: number): number {
  let sum = 0;
  for (let index = 0; index < messages; index++) {
    const offset = (index % slots) * 512;
    sum ^= read(offset, build(index, offset));
  }
  return sum;
}

test("building and reading a million messages leaves the heap as it was", () => {
  v8.setFlagsFromString("--expose-gc");
  const collectGarbage = vm.runInNewContext("gc") as () => void;
  // V8 may take a while to settle on code.
  run(100_000);
  const rounds = 20;
  const messages = 50_000;
  const growth: number[] = [];
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    collectGarbage();
    const before = v8.getHeapStatistics().used_heap_size;
    sum ^= run(messages);
    growth.push(v8.getHeapStatistics().used_heap_size - before);
  }
  assert.ok(Number.isInteger(sum));
  growth.sort((a, b) => a - b);
  const median = growth[rounds / 2] ?? Infinity;
  // The smallest object takes 12 bytes a message.
  assert.ok(median < messages, `bytes by round, sorted: ${growth.join(", ")}`);
});
