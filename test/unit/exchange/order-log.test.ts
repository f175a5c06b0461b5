import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import zlib from "node:zlib";
import fc from "fast-check";
import {
  parseDecimal,
  parseLine,
  readOrderLog,
  type LogLine,
} from "../../../examples/exchange/order-log.ts";
import { decodeOrder, encodeOrder } from "../../../examples/exchange/order.ts";

const created =
  "1430438404518 order_created " +
  '{"price": "236.47", "amount": "2.00000000", "id": 65595247, "order_type": 0}';

test("created, changed and deleted orders become new, amend and cancel", () => {
  const order = { kind: "new", id: 65595247n, side: "buy", price: 23647n, quantity: 200_000_000n };
  const timestampNs = 1_430_438_404_518_000_000n;
  assert.deepEqual(parseLine(created), { order, timestampNs });
  assert.deepEqual(parseLine(created.replace("created", "changed")), {
    order: { ...order, kind: "amend" },
    timestampNs,
  });
  assert.deepEqual(
    parseLine(created.replace("created", "deleted").replace('_type": 0', '_type": 1')),
    { order: { ...order, kind: "cancel", side: "sell" }, timestampNs },
  );
});

test("what the recorded exchange made of the orders is passed over", () => {
  assert.equal(parseLine('1 trade {"price": 1.5, "id": 1}'), null);
  assert.equal(parseLine('1 order_book {"bids": []}'), null);
});

test("a line that cannot be read says why, and none throws", () => {
  for (const [line, reason] of [
    ["", /MILLISECONDS KIND JSON/],
    ["garbage", /MILLISECONDS KIND JSON/],
    ["1 order_eaten {}", /MILLISECONDS KIND JSON/],
    ["1 order_created {", /MILLISECONDS KIND JSON/],
    ["1 order_created {,}", /JSON/],
    [created.replace("65595247", "-1"), /id/],
    [created.replace("65595247", "1.5"), /id/],
    [created.replace('"order_type": 0', '"order_type": 2'), /order_type/],
    [created.replace("236.47", "236.471"), /price/],
    [created.replace("236.47", "1e3"), /price/],
    [created.replace('"236.47"', "236.47"), /price/],
    [created.replace("2.00000000", "2.000000001"), /amount/],
    [created.replace("2.00000000", "0.00000000"), /above 0/],
    [created.replace("2.00000000", "99999999999"), /amount/],
  ] as const) {
    const parsed = parseLine(line);
    assert.ok(parsed !== null && "malformed" in parsed, line);
    assert.match(parsed.malformed, reason);
  }
  fc.assert(fc.property(fc.string(), (text) => void parseLine(text)));
});

test("decimals are exact: what is written comes back, and nothing is rounded", () => {
  fc.assert(
    fc.property(fc.nat(90_000_000), fc.nat(99_999_999), (whole, fraction) => {
      const decimals = String(fraction).padStart(8, "0");
      assert.equal(
        parseDecimal(`${whole}.${decimals}`, 8),
        BigInt(whole) * 100_000_000n + BigInt(fraction),
      );
    }),
  );
  assert.equal(parseDecimal("5", 2), 500n);
  assert.equal(parseDecimal("5.100", 2), 510n);
  for (const wrong of ["", ".5", "-1", "1,5", "0x1", "1.", "NaN", 5, null]) {
    assert.equal(parseDecimal(wrong, 2), undefined, String(wrong));
  }
});

const hasXz = spawnSync("xz", ["--version"]).status === 0;

for (const [name, compress] of [
  ["plain", (text: Buffer) => text],
  ["gzip", (text: Buffer) => zlib.gzipSync(text)],
  ["zstd", (text: Buffer) => zlib.zstdCompressSync(text)],
  ["xz", (text: Buffer) => execFileSync("xz", ["--stdout"], { input: text })],
] as const) {
  test(
    `a ${name} log is read by what it is, not by its name`,
    { skip: name === "xz" && !hasXz && "no program xz" },
    async (t) => {
      const file = path.join(makeDirectory(t), "orders");
      fs.writeFileSync(file, compress(Buffer.from(`${created}\n\n${created}\n`)));
      const lines = await readWhole(file);
      assert.equal(lines.length, 3);
      assert.deepEqual(lines[0], lines[2]);
    },
  );
}

test("a log that is cut off in the middle of its compression is an error, not a short log", async (t) => {
  const file = path.join(makeDirectory(t), "orders.gz");
  const whole = zlib.gzipSync(`${created}\n`.repeat(1000));
  fs.writeFileSync(file, whole.subarray(0, whole.length - 20));
  await assert.rejects(readWhole(file), { code: "INPUT_MALFORMED" });
});

test("an order survives its encoding", () => {
  const any64 = fc.bigInt(0n, 2n ** 63n - 1n);
  fc.assert(
    fc.property(
      fc.record(
        {
          kind: fc.constantFrom("new" as const, "amend" as const, "cancel" as const),
          id: any64,
          side: fc.constantFrom("buy" as const, "sell" as const),
          price: any64,
          quantity: any64,
        },
        { noNullPrototype: true },
      ),
      (order) => {
        const message = { id: 1n, prevId: 0n, timestampNs: 0n, bytes: encodeOrder(order) };
        assert.deepEqual(decodeOrder(message), order);
      },
    ),
  );
});

async function readWhole(file: string): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const line of readOrderLog(file)) lines.push(line);
  return lines;
}

function makeDirectory(context: { after(fn: () => void): void }): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-orders-"));
  context.after(() => fs.rmSync(directory, { recursive: true }));
  return directory;
}
