import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Book, type BookState } from "../../../examples/exchange/book.ts";
import { generateOrders } from "../../../examples/exchange/generator.ts";
import { encodeOrder, type Order, type Side } from "../../../examples/exchange/order.ts";
import type { Message } from "../../../src/message.ts";
import { decodeTrade } from "../../../src/trade.ts";

interface Fill {
  readonly maker: bigint;
  readonly taker: bigint;
  readonly price: bigint;
  readonly quantity: bigint;
}

/** Price-time priority as simply as it can be said: the model that the book has to equal. */
class Model {
  private resting: { id: bigint; side: Side; price: bigint; quantity: bigint }[] = [];

  apply(order: Order): Fill[] {
    const known = this.resting.find(({ id }) => id === order.id);
    if (order.kind === "new" && known !== undefined) return [];
    if (order.kind !== "new") {
      if (known === undefined) return [];
      this.resting = this.resting.filter(({ id }) => id !== order.id);
      if (order.kind === "cancel" || order.quantity === 0n) return [];
    }
    return this.match({ ...order, side: known?.side ?? order.side });
  }

  private match(taker: Order): Fill[] {
    const fills: Fill[] = [];
    let left = taker.quantity;
    const crosses = (price: bigint): boolean =>
      taker.side === "buy" ? price <= taker.price : price >= taker.price;
    const better = taker.side === "buy" ? -1n : 1n;
    while (left > 0n) {
      // Earlier orders of a price stand before later ones, and sorting keeps it so.
      const [maker] = this.resting
        .filter(({ side, price }) => side !== taker.side && crosses(price))
        .sort((one, other) => Number((other.price - one.price) * better));
      if (maker === undefined) break;
      const quantity = maker.quantity < left ? maker.quantity : left;
      fills.push({ maker: maker.id, taker: taker.id, price: maker.price, quantity });
      maker.quantity -= quantity;
      left -= quantity;
      this.resting = this.resting.filter((order) => order.quantity > 0n);
    }
    const { id, side, price } = taker;
    if (left > 0n) this.resting.push({ id, side, price, quantity: left });
    return fills;
  }
}

const anyOrder: fc.Arbitrary<Order> = fc.record({
  kind: fc.constantFrom("new" as const, "new" as const, "amend" as const, "cancel" as const),
  id: fc.bigInt(1n, 30n),
  side: fc.constantFrom("buy" as const, "sell" as const),
  price: fc.bigInt(95n, 105n),
  quantity: fc.bigInt(1n, 20n),
});

function toMessages(orders: readonly Order[]): Message[] {
  return orders.map((order, index) => ({
    id: BigInt(index) + 1n,
    prevId: BigInt(index),
    timestampNs: BigInt(index) * 1000n,
    bytes: encodeOrder(order),
  }));
}

test("the book trades as price-time priority says, order by order", () => {
  fc.assert(
    fc.property(fc.array(anyOrder, { maxLength: 80 }), (orders) => {
      const book = new Book();
      const model = new Model();
      for (const [index, message] of toMessages(orders).entries()) {
        const fills = book.apply(message).map((trade) => {
          const { makerOrderId, takerOrderId, price, quantity } = decodeTrade(trade);
          return { maker: makerOrderId, taker: takerOrderId, price, quantity };
        });
        const order = orders[index];
        assert.ok(order !== undefined);
        assert.deepEqual(fills, model.apply(order));
      }
    }),
  );
});

test("a book that was saved and loaded anywhere goes on with the same trades and ids", () => {
  fc.assert(
    fc.property(fc.array(anyOrder, { minLength: 1, maxLength: 80 }), fc.nat(), (orders, where) => {
      const messages = toMessages(orders);
      const cut = where % messages.length;
      const whole = new Book();
      const expected = messages.flatMap((message) => whole.apply(message));
      const before = new Book();
      const first = messages.slice(0, cut).flatMap((message) => before.apply(message));
      const after = new Book(JSON.parse(JSON.stringify(before.save())) as BookState);
      const second = messages.slice(cut).flatMap((message) => after.apply(message));
      assert.deepEqual([...first, ...second], expected);
      assert.deepEqual([after.gone, after.rejected], [whole.gone, whole.rejected]);
    }),
  );
});

test("trades are chained from 1 without a hole, at the time of the order that made them", () => {
  const book = new Book();
  let last = 0n;
  let id = 0n;
  for (const { order, timestampNs } of generateOrders(3000, 5)) {
    const message = { id: id + 1n, prevId: id, timestampNs, bytes: encodeOrder(order) };
    id++;
    for (const trade of book.apply(message)) {
      assert.equal(trade.prevId, last);
      assert.equal(trade.id, last + 1n);
      assert.equal(trade.timestampNs, timestampNs);
      last = trade.id;
    }
  }
  assert.ok(last > 1000n);
});

test("the same seed generates the same orders, another seed others", () => {
  assert.deepEqual([...generateOrders(500, 9)], [...generateOrders(500, 9)]);
  assert.notDeepEqual([...generateOrders(500, 9)], [...generateOrders(500, 10)]);
});
