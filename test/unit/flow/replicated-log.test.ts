/** The encoding of commands: what is written is read, and nothing else is taken for a command. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  decodeCommand,
  encodeCommand,
  positionMax,
  readCommand,
  type LogCommand,
} from "../../../src/flow/replicated-log.ts";
import type { Message } from "../../../src/message.ts";
import { makeMessage, makeMessages, withCode } from "./journal-scratch.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

const u64 = fc.bigInt(0n, positionMax);
const message: fc.Arbitrary<Message> = fc.record({
  id: u64,
  prevId: u64,
  timestampNs: u64,
  bytes: fc.uint8Array({ maxLength: 60 }),
});
const command: fc.Arbitrary<LogCommand> = fc.oneof(
  fc.record({
    kind: fc.constant("append" as const),
    messages: fc.array(message, { minLength: 1, maxLength: 10 }),
  }),
  fc.record({ kind: fc.constant("trim" as const), beforeId: u64 }),
);

const versionAt = 3;

/** Comparable, whatever the bytes are views of. */
function plain(of: LogCommand): unknown {
  if (of.kind === "trim") return { ...of };
  return { ...of, messages: of.messages.map((it) => ({ ...it, bytes: [...it.bytes] })) };
}

test("a command that is encoded and decoded is the same, anywhere in memory", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(command, fc.nat(20), (original, offset) => {
      const encoded = encodeCommand(original);
      const within = new Uint8Array(encoded.length + offset + 3);
      within.set(encoded, offset);
      const decoded = decodeCommand(within.subarray(offset, offset + encoded.length));
      assert.deepEqual(plain(decoded), plain(original));
    }),
    { seed },
  );
});

test("bytes that are not a whole command are refused, never read as another one", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(command, fc.double({ min: 0, max: 0.999 }), fc.nat(), (original, at, noise) => {
      const encoded = encodeCommand(original);
      const cut = encoded.slice(0, Math.floor(encoded.length * at));
      assert.throws(() => decodeCommand(cut), withCode("MESSAGE_MALFORMED"));
      const longer = new Uint8Array([...encoded, noise % 256]);
      assert.throws(() => decodeCommand(longer), withCode("MESSAGE_MALFORMED"));
      // A bit of the header that is neither the id of a trim nor of the version.
      const bit = noise % (8 * 8);
      if (bit >>> 3 === versionAt) return;
      const flipped = encoded.slice();
      flipped[bit >>> 3] = (flipped[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => decodeCommand(flipped), withCode("MESSAGE_MALFORMED"));
    }),
    { seed },
  );
});

test("whatever bytes a log holds are read as an entry", (t) => {
  t.diagnostic(`SEED=${seed}`);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      assert.equal(readCommand(bytes).kind, "unreadable");
    }),
    { seed },
  );
});

test("nobody goes on behind a command of another version", () => {
  const encoded = encodeCommand({ kind: "trim", beforeId: 7n });
  encoded[versionAt] = 2;
  assert.throws(() => readCommand(encoded), withCode("STORAGE_CORRUPT"));
});

test("the bytes of a trim and of an append are what the file says", () => {
  const hex = (of: LogCommand): string => Buffer.from(encodeCommand(of)).toString("hex");
  const trim = "474c43" + "01" + "02" + "000000" + "0807060504030201";
  assert.equal(hex({ kind: "trim", beforeId: 0x0102030405060708n }), trim);
  const append = "474c43" + "01" + "01" + "000000" + "0100000000000000";
  const packed =
    "0500000000000000" + "0400000000000000" + "0400000000000000" + "02000000" + "00000000";
  const messages = [makeMessage(5n, 4n, 2)];
  assert.equal(hex({ kind: "append", messages }), `${append}${packed}0606`);
});

test("what is no command is not encoded", () => {
  const encode = (of: LogCommand) => (): unknown => encodeCommand(of);
  assert.throws(encode({ kind: "append", messages: [] }), withCode("INVALID_OPERATION"));
  assert.throws(encode({ kind: "trim", beforeId: -1n }), withCode("INVALID_OPERATION"));
  assert.throws(encode({ kind: "trim", beforeId: 2n ** 64n }), withCode("INVALID_OPERATION"));
  const messages = [...makeMessages(0n, 1), makeMessage(2n ** 64n, 1n, 3)];
  assert.throws(encode({ kind: "append", messages }), withCode("MESSAGE_MALFORMED"));
});
