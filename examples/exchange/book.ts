/**
 * The matching engine as a deterministic state machine: the same orders give the same trades with
 * the same ids, whenever and however often they are applied. No clock, no disk, no network.
 *
 * Matching is the library's (price-time priority). It computes with JavaScript numbers: prices
 * and quantities are whole numbers of smallest units below 2^53, and so are its sums of them, so
 * every step is exact.
 */
import { OrderBook, type IProcessOrder, Side as LibrarySide } from "nodejs-order-book";
import { encodeTrade, type Message } from "gapless/flow";
import { userOf } from "./market.ts";
import { decodeOrder, type Order } from "./order.ts";

const librarySide = { buy: LibrarySide.BUY, sell: LibrarySide.SELL } as const;

type LibrarySnapshot = ReturnType<OrderBook["snapshot"]>;

/** Everything that the next trade depends on. Plain data: it survives JSON. */
export interface BookState {
  /** Message id of the last order applied. */
  readonly lastOrder: string;
  readonly lastTrade: string;
  readonly gone: number;
  readonly rejected: number;
  readonly book: LibrarySnapshot | null;
}

export const emptyBook: BookState = {
  lastOrder: "0",
  lastTrade: "0",
  gone: 0,
  rejected: 0,
  book: null,
};

export class Book {
  private readonly library: OrderBook;
  private lastOrder: bigint;
  private lastTrade: bigint;
  /** Amends and cancels of orders that were filled or cancelled before, or never came. */
  gone: number;
  /** New orders that the library refuses: an id that already rests. */
  rejected: number;

  constructor(state: BookState = emptyBook) {
    this.library = new OrderBook(state.book === null ? {} : { snapshot: state.book });
    this.lastOrder = BigInt(state.lastOrder);
    this.lastTrade = BigInt(state.lastTrade);
    this.gone = state.gone;
    this.rejected = state.rejected;
  }

  get lastOrderId(): bigint {
    return this.lastOrder;
  }

  get lastTradeId(): bigint {
    return this.lastTrade;
  }

  /** Applies one order and returns its trades. */
  apply(message: Message): Message[] {
    const order = decodeOrder(message);
    this.lastOrder = message.id;
    const result = this.execute(order);
    return result === undefined ? [] : this.tradesOf(order, result, message.timestampNs);
  }

  save(): BookState {
    return {
      lastOrder: this.lastOrder.toString(),
      lastTrade: this.lastTrade.toString(),
      gone: this.gone,
      rejected: this.rejected,
      book: this.library.snapshot(),
    };
  }

  private execute(order: Order): IProcessOrder | undefined {
    const id = order.id.toString();
    const size = Number(order.quantity);
    const price = Number(order.price);
    switch (order.kind) {
      case "new": {
        const result = this.library.limit({ id, side: librarySide[order.side], size, price });
        if (result.err !== null) this.rejected++;
        return result;
      }
      case "amend":
        if (order.quantity > 0n && this.library.order(id) !== undefined) {
          return this.library.modify(id, { size, price });
        }
        break;
      case "cancel":
    }
    if (this.library.cancel(id) === undefined) this.gone++;
    return undefined;
  }

  /**
   * The library names the makers that are used up in `done`, and the one that is not in `partial`;
   * the taker stands among them too, in `done` when it is filled and in `partial` when it rests.
   */
  private tradesOf(taker: Order, result: IProcessOrder, timestampNs: bigint): Message[] {
    const takerId = taker.id.toString();
    const fills = result.done
      .filter((maker) => maker.id !== takerId && "price" in maker)
      .map((maker) => ({
        id: maker.id,
        price: (maker as { price: number }).price,
        size: maker.size,
      }));
    if (result.partial !== null && result.partial.id !== takerId) {
      const { id, price } = result.partial;
      fills.push({ id, price, size: result.partialQuantityProcessed });
    }
    return fills.map(({ id, price, size }) => {
      const makerUser = userOf(BigInt(id));
      const takerUser = userOf(taker.id);
      const prevId = this.lastTrade;
      this.lastTrade++;
      return {
        id: this.lastTrade,
        prevId,
        timestampNs,
        bytes: encodeTrade({
          price: BigInt(price),
          quantity: BigInt(size),
          makerOrderId: BigInt(id),
          takerOrderId: taker.id,
          buyer: taker.side === "buy" ? takerUser : makerUser,
          seller: taker.side === "buy" ? makerUser : takerUser,
          takerSide: taker.side,
        }),
      };
    });
  }
}
