/** Trades, batches and folders for the tests of sinks: those of settlement and analytics too. */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import type { TestContext } from "node:test";
import { noRepair, type Sink } from "../../../src/flow/endpoints.ts";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { isBatch, type Batch, type Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { encodeTrade, type Market, type Trade } from "../../../src/trade.ts";

export const market: Market = { base: "BTC", quote: "USD", priceScale: 2, quantityScale: 8 };

export const i64Max = 2n ** 63n - 1n;

/** A folder that is removed after the test. */
export function makeDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-sqlite-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function makePath(context: TestContext): string {
  return path.join(makeDirectory(context), "rows.sqlite");
}

/** Trades of some users, whose ids skip now and then, a second apart. Always the same. */
export function makeTrades(count: number, users = 10): Trade[] {
  const random = seededRandom(1);
  let id = 0n;
  return Array.from({ length: count }, (_, index) => {
    id += BigInt(1 + random.below(3));
    return {
      id,
      timestampNs: 1_700_000_000_000_000_000n + BigInt(index) * 1_000_000_000n,
      price: BigInt(6_000_000 + random.below(10_000)),
      quantity: BigInt(1 + random.below(1_000_000)),
      makerOrderId: id * 2n,
      takerOrderId: id * 2n + 1n,
      buyer: BigInt(random.below(users)),
      seller: BigInt(random.below(users)),
      takerSide: random.below(2) === 0 ? "buy" : "sell",
    };
  });
}

/** The messages of trades, as a chain. */
export function messagesOf(trades: readonly Trade[], lastId = 0n): Message[] {
  return trades.map((trade, index) => ({
    id: trade.id,
    prevId: trades[index - 1]?.id ?? lastId,
    timestampNs: trade.timestampNs,
    bytes: encodeTrade(trade),
  }));
}

/** Cuts messages into batches; the sizes are gone through again and again. */
export function batchesOf(messages: readonly Message[], ...sizes: readonly number[]): Batch[] {
  const batches: Batch[] = [];
  let start = 0;
  while (start < messages.length) {
    const end = start + (sizes[batches.length % sizes.length] ?? 1);
    const batch = messages.slice(start, end);
    assert.ok(isBatch(batch));
    batches.push(batch);
    start = end;
  }
  return batches;
}

export async function applyAll(sink: Sink, batches: readonly Batch[]): Promise<void> {
  for (const batch of batches) await sink.apply(batch, noRepair);
}

/** What a statement finds in a file, through a connection that only does this. */
export function query(filePath: string, sql: string, ...values: SQLInputValue[]): unknown[][] {
  using database = new DatabaseSync(filePath, {
    readOnly: true,
    readBigInts: true,
    returnArrays: true,
  });
  return database.prepare(sql).all(...values) as unknown as unknown[][];
}

/** Runs a statement behind the back of everybody. */
export function tamper(filePath: string, sql: string): void {
  using database = new DatabaseSync(filePath, { readBigInts: true });
  database.exec(sql);
}

export function withCode(code: ErrorCode, ...texts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isGaplessError(error, code), String(error));
    for (const text of texts) assert.ok(error.message.includes(text), error.message);
    return true;
  };
}
