/**
 * Orders out of a seed: a price that wanders, orders on both sides of it, some of which cross,
 * and now and then one that is amended or cancelled, whether it still rests or not.
 */
import { seededRandom } from "gapless/testing";
import type { LogOrder } from "./order-log.ts";
import type { Side } from "./order.ts";

const firstOrderId = 1_000_000n;
/** 2026-01-01T00:00:00Z. */
const startMs = 1_767_225_600_000n;
const startPrice = 25_000;
const lot = 1_000_000n;
/** Amends and cancels look this far back. */
const recentOrders = 2000;

export function* generateOrders(count: number, seed: number): Generator<LogOrder> {
  const random = seededRandom(seed);
  const recent: { id: bigint; side: Side; price: bigint }[] = [];
  let nextId = firstOrderId;
  let middle = startPrice;
  let timeMs = startMs;
  for (let made = 0; made < count; made++) {
    timeMs += BigInt(random.below(20));
    middle = Math.max(1000, middle + random.below(3) - 1);
    const what = random.below(100);
    const quantity = lot * BigInt(1 + random.below(200));
    const target = recent[random.below(recentOrders)];
    if (what < 25 && target !== undefined) {
      const kind = what < 5 ? "amend" : "cancel";
      yield { order: { kind, ...target, quantity }, timestampNs: timeMs * 1_000_000n };
      continue;
    }
    const side: Side = random.below(2) === 0 ? "buy" : "sell";
    const towards = random.below(120) - 40;
    const price = BigInt(side === "buy" ? middle - towards : middle + towards);
    const id = nextId++;
    recent[Number(id % BigInt(recentOrders))] = { id, side, price };
    yield { order: { kind: "new", id, side, price, quantity }, timestampNs: timeMs * 1_000_000n };
  }
}
