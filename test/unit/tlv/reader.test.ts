import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  describeMessage,
  flyweight,
  isGaplessError,
  layouts,
  memoryOf,
  TlvReader,
  type DescribedMessage,
  type DescribedTlv,
  type Field,
  type Fields,
  type LayoutName,
} from "gapless/tlv";
import { encodeDescribed } from "./described.ts";

const off = { marketData: false, signal: false, execution: false, system: false };

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function describedField(
  { kind, at, bytes }: Field,
  bytesMax: number,
): fc.Arbitrary<string | number> {
  if (kind === "u64" || kind === "time") return fc.bigInt(0n, 2n ** 64n - 1n).map(String);
  if (kind === "i64") return fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String);
  if (kind === "i32") return fc.integer();
  if (kind === "rest") return fc.uint8Array({ maxLength: bytesMax - at }).map(hexOf);
  if (kind === "bytes") return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map(hexOf);
  return fc.nat(2 ** (8 * bytes) - 1);
}

function describedLayout(name: LayoutName): fc.Arbitrary<DescribedTlv> {
  const { type, bytesMax } = layouts[name];
  const fields: Fields = layouts[name].fields;
  const described = Object.entries(fields).map(
    ([field, layout]) => [field, describedField(layout, bytesMax)] as const,
  );
  return fc
    .record(Object.fromEntries(described), { noNullPrototype: true })
    .map((values) => ({ type, name, fields: values }));
}

const namesByDomain = {
  marketData: ["trade", "quote"],
  signal: ["signalIdentity", "assetCorrelation", "economics", "executionAddresses"],
  execution: [
    "orderRequest",
    "orderStatus",
    "fill",
    "orderCancel",
    "orderModify",
    "executionReport",
  ],
  system: [
    "heartbeat",
    "snapshot",
    "traceContext",
    "recoveryRequest",
    "recoveryResponse",
    "sequenceSync",
  ],
} as const;

const unknownTlv: fc.Arbitrary<DescribedTlv> = fc.record(
  { type: fc.integer({ min: 120, max: 254 }), value: fc.uint8Array({ maxLength: 400 }).map(hexOf) },
  { noNullPrototype: true },
);

const messages: fc.Arbitrary<DescribedMessage> = fc
  .constantFrom("marketData", "signal", "execution", "system")
  .chain((domain) => {
    const names = [...namesByDomain[domain], ...namesByDomain.system];
    return fc.record(
      {
        domain: fc.constant(domain),
        source: fc.nat(255),
        flags: fc.nat(255),
        sequence: fc.bigInt(0n, 2n ** 64n - 1n).map(String),
        timestampNs: fc.bigInt(0n, 2n ** 64n - 1n).map(String),
        tlvs: fc.array(fc.oneof(unknownTlv, ...names.map(describedLayout)), { maxLength: 6 }),
      },
      { noNullPrototype: true },
    );
  });

test("a message comes out as it went in, whatever is in it", () => {
  fc.assert(
    fc.property(messages, (message) => {
      const bytes = encodeDescribed(message);
      assert.deepEqual(describeMessage(memoryOf(bytes), 0, bytes.length), message);
    }),
    { numRuns: 300 },
  );
});

/** Reads all of it, from memory that ends where the message does: no read can go past it unseen. */
function readAll(bytes: Uint8Array): void {
  try {
    describeMessage(memoryOf(bytes), 0, bytes.length, off);
  } catch (error) {
    assert.ok(isGaplessError(error, "MESSAGE_MALFORMED"), String(error));
    const [, offset] = /offset=(\d+),/.exec(error.message) ?? [];
    assert.ok(offset !== undefined && Number(offset) <= bytes.length, error.message);
  }
}

test("a message that is cut off anywhere is an error with an offset", () => {
  fc.assert(
    fc.property(messages, (message) => {
      const bytes = encodeDescribed(message);
      for (let length = 0; length < bytes.length; length++) {
        const cut = bytes.slice(0, length);
        assert.throws(
          () => describeMessage(memoryOf(cut), 0, length, off),
          (error: unknown) =>
            isGaplessError(error, "MESSAGE_MALFORMED") && /offset=(0|24),/.test(error.message),
        );
      }
    }),
    { numRuns: 20 },
  );
});

test("a message with changed bits is an error with an offset, or another message", () => {
  const flips = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 8,
  });
  fc.assert(
    fc.property(messages, flips, (message, changes) => {
      const bytes = encodeDescribed(message);
      for (const [at, bits] of changes) {
        const index = at % bytes.length;
        bytes[index] = (bytes[index] ?? 0) ^ bits;
      }
      readAll(bytes);
    }),
    { numRuns: 2000 },
  );
});

test("any payload is an error with an offset, or a message", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (payload) => {
      const empty: DescribedMessage = {
        domain: "system",
        source: 0,
        flags: 0,
        sequence: "0",
        timestampNs: "0",
        tlvs: [],
      };
      const bytes = Uint8Array.of(...encodeDescribed(empty), ...payload);
      memoryOf(bytes).view.setUint32(24, payload.length, true);
      readAll(bytes);
    }),
    { numRuns: 3000 },
  );
});

test("one changed bit never passes where there is a checksum", () => {
  const message: DescribedMessage = {
    domain: "execution",
    source: 1,
    flags: 0,
    sequence: "5",
    timestampNs: "6",
    tlvs: [{ type: 200, value: "0102030405" }],
  };
  const bytes = encodeDescribed(message);
  const policy = { marketData: true };
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = bytes.slice();
    changed[bit >>> 3] = (changed[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
    assert.throws(
      () => describeMessage(memoryOf(changed), 0, changed.length, policy),
      (error: unknown) => isGaplessError(error, "MESSAGE_MALFORMED"),
    );
  }
});

test("unknown types are passed over, and a value may be extended that need not be", () => {
  const trade = new Uint8Array(40).fill(1);
  const payload = [119, 2, 9, 9, 255, 0, 1, 40, 0, ...trade, 0, 1, 7];
  const header = encodeDescribed({
    domain: "marketData",
    source: 1,
    flags: 0,
    sequence: "0",
    timestampNs: "0",
    tlvs: [],
  });
  const memory = memoryOf(Uint8Array.of(...header, ...payload, 0xee, 0xee));
  memory.view.setUint32(24, payload.length, true);
  const reader = new TlvReader();
  reader.wrap(memory, 0, memory.bytes.length);
  const types: number[] = [];
  while (reader.next()) {
    types.push(reader.type);
    if (reader.type !== layouts.trade.type) continue;
    assert.equal(flyweight("trade").wrap(memory, reader.valueOffset).venue, 0x0101);
  }
  assert.deepEqual(types, [119, 1, 0]);
});
