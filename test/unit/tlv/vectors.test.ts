/** Holds the code to the golden bytes of spec/vectors/tlv, which other code than this made. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import {
  describeMessage,
  domains,
  isGaplessError,
  layouts,
  memoryOf,
  TlvReader,
  type DescribedMessage,
} from "gapless/tlv";
import { encodeDescribed } from "./described.ts";

const directory = path.join(import.meta.dirname, "../../../spec/vectors/tlv");

const names = fs
  .readdirSync(directory)
  .filter((file) => file.endsWith(".hex"))
  .map((file) => file.slice(0, -".hex".length));

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

function read(file: string): string {
  return fs.readFileSync(path.join(directory, file), "utf8");
}

function describedIn(name: string): DescribedMessage {
  return JSON.parse(read(`${name}.json`)) as DescribedMessage;
}

for (const name of names) {
  const bytes = bytesOf(read(`${name}.hex`));

  test(`the golden message ${name} decodes to what is written beside it`, () => {
    assert.deepEqual(describeMessage(memoryOf(bytes), 0, bytes.length), describedIn(name));
  });

  test(`the golden message ${name} is encoded to the same bytes`, () => {
    assert.deepEqual(encodeDescribed(describedIn(name)), bytes);
  });
}

test("the golden messages have every domain and every type that has a layout", () => {
  const messages = names.map(describedIn);
  const types = new Set(messages.flatMap(({ tlvs }) => tlvs.map(({ type }) => type)));
  for (const [name, { type }] of Object.entries(layouts)) assert.ok(types.has(type), name);
  assert.deepEqual(
    new Set(messages.map(({ domain }) => domain)),
    new Set(Object.keys(domains) as (keyof typeof domains)[]),
  );
});

const malformed = JSON.parse(read("malformed.json")) as {
  readonly what: string;
  readonly offset: number;
  readonly hex: string;
}[];

for (const { what, offset, hex } of malformed) {
  test(`a malformed message is an error with its offset: ${what}`, () => {
    const bytes = bytesOf(hex);
    const reader = new TlvReader();
    // Behind other bytes: the offset is that from the beginning of the message.
    const memory = memoryOf(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, ...bytes));
    assert.throws(
      () => reader.wrap(memory, 8, bytes.length),
      (error: unknown) => {
        assert.ok(isGaplessError(error, "MESSAGE_MALFORMED"), String(error));
        assert.ok(error.message.includes(`offset=${offset},`), error.message);
        return true;
      },
    );
    assert.equal(reader.next(), false);
  });
}
