/** Holds spec/message.md to the code: its example, and the offsets of its tables. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { follow } from "../../src/chain.ts";
import { messageHeaderBytes, packMessages, unpackMessages } from "../../src/message.ts";
import { decodeTrade, encodeTrade, tradeBytes, type Trade } from "../../src/trade.ts";

const spec = fs.readFileSync(path.join(import.meta.dirname, "../../spec/message.md"), "utf8");

function section(title: string): string {
  const found = spec.split(/^## /m).find((it) => it.startsWith(`${title}\n`));
  assert.ok(found, title);
  return found;
}

/** Offset and size of each row of the section's table. */
function fieldsOf(title: string): [offset: number, bytes: number][] {
  return [...section(title).matchAll(/^\| (\d+) \| (\d+) \|/gm)].map((row) => [
    Number(row[1]),
    Number(row[2]),
  ]);
}

function exampleBytes(): Uint8Array {
  const [, hex = ""] = /```\n([0-9a-f \n]+)```/.exec(section("Example")) ?? [];
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"));
}

const trade: Trade = {
  id: 42n,
  timestampNs: 1_700_000_000_123_456_789n,
  price: 6_412_350n,
  quantity: 25_000n,
  makerOrderId: 70_001n,
  takerOrderId: 70_014n,
  buyer: 12n,
  seller: 7n,
  takerSide: "sell",
};

test("the example of the specification decodes to what it says, and encodes to its bytes", () => {
  const bytes = exampleBytes();
  const [message, ...more] = unpackMessages(bytes);
  assert.ok(message);
  assert.deepEqual(more, []);
  assert.equal(message.prevId, 40n);
  assert.deepEqual(decodeTrade(message), trade);
  const encoded = packMessages([{ ...message, bytes: encodeTrade(trade) }]);
  assert.deepEqual(encoded, bytes);
  for (const [name, value] of Object.entries({ ...trade, prevId: 40n })) {
    assert.ok(section("Example").includes(String(value)), name);
  }
});

test("the fields of the specification follow one another without a hole, to the size in the code", () => {
  const message = fieldsOf("Message");
  const fields = fieldsOf("Trade");
  for (const [table, size] of [
    [message, messageHeaderBytes],
    [fields, tradeBytes],
  ] as const) {
    let end = 0;
    for (const [offset, bytes] of table) {
      assert.equal(offset, end);
      end += bytes;
    }
    assert.equal(end, size);
  }
});

test("the order in which the specification places a message is that of the code", () => {
  const holds = [...section("Message").matchAll(/^\| (`.*|otherwise) \| (\w+ ?\w*)/gm)];
  assert.deepEqual(
    holds.map(([, condition, placement]) => [condition, placement]),
    [
      ["`prevId` ≥ `id`", "broken"],
      ["`id` ≤ `last`", "a duplicate"],
      ["`prevId` = `last`", "the next"],
      ["`prevId` > `last`", "behind a"],
      ["otherwise", "broken"],
    ],
  );
  const byTheBook = (last: bigint, id: bigint, prevId: bigint): string => {
    if (prevId >= id) return "broken";
    if (id <= last) return "duplicate";
    if (prevId === last) return "next";
    return prevId > last ? "gap" : "broken";
  };
  for (let last = 0n; last < 6n; last++) {
    for (let id = 0n; id < 6n; id++) {
      for (let prevId = 0n; prevId < 6n; prevId++) {
        assert.equal(follow(last, { id, prevId }), byTheBook(last, id, prevId));
      }
    }
  }
});
