/**
 * What a trade is, and its fixed encoding as the `bytes` of a message.
 *
 *   0           8              16          24          32          40           48        49
 *   | price i64 | quantity i64 | maker u64 | taker u64 | buyer u64 | seller u64 | side u8 | zeros
 *
 * 64 bytes in all. Side is 0 where the taker bought and 1 where he sold.
 *
 * All little-endian. The id and the time of a trade are those of its message.
 * Price and quantity count the smallest units of a market: see `Market`.
 */
import { GaplessError } from "./errors.ts";
import type { Message } from "./message.ts";

export interface Trade {
  readonly id: bigint;
  readonly timestampNs: bigint;
  /** In ticks of 10^-priceScale quote units for one base unit. Above zero. */
  readonly price: bigint;
  /** In lots of 10^-quantityScale base units. Above zero. */
  readonly quantity: bigint;
  /** The resting order, and the one that came and took from it. */
  readonly makerOrderId: bigint;
  readonly takerOrderId: bigint;
  /** Account numbers of the two users. */
  readonly buyer: bigint;
  readonly seller: bigint;
  readonly takerSide: "buy" | "sell";
}

/**
 * A pair of assets and the decimals its numbers are counted in. The quote amount of a trade is
 * price × quantity: exact at priceScale + quantityScale decimals, so nothing is ever rounded.
 */
export interface Market {
  readonly base: string;
  readonly quote: string;
  readonly priceScale: number;
  readonly quantityScale: number;
}

export const tradeBytes = 64;

const sides = ["buy", "sell"] as const;

/** @throws GaplessError INPUT_MALFORMED for a trade that `decodeTrade` would not give back. */
export function encodeTrade(trade: Omit<Trade, "id" | "timestampNs">): Uint8Array<ArrayBuffer> {
  const { price, quantity, makerOrderId, takerOrderId, buyer, seller } = trade;
  if (!isAmount(price) || !isAmount(quantity)) throw unencodable(trade);
  if (!isU64(makerOrderId) || !isU64(takerOrderId)) throw unencodable(trade);
  if (!isU64(buyer) || !isU64(seller)) throw unencodable(trade);
  const bytes = new Uint8Array(tradeBytes);
  const view = new DataView(bytes.buffer);
  view.setBigInt64(0, price, true);
  view.setBigInt64(8, quantity, true);
  view.setBigUint64(16, makerOrderId, true);
  view.setBigUint64(24, takerOrderId, true);
  view.setBigUint64(32, buyer, true);
  view.setBigUint64(40, seller, true);
  view.setUint8(48, sides.indexOf(trade.takerSide));
  return bytes;
}

/** @throws GaplessError MESSAGE_MALFORMED for bytes that are no trade. */
export function decodeTrade(message: Message): Trade {
  const { bytes } = message;
  if (bytes.length !== tradeBytes) throw malformed(message, `bytes=${bytes.length}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const price = view.getBigInt64(0, true);
  const quantity = view.getBigInt64(8, true);
  const takerSide = sides[view.getUint8(48)];
  if (takerSide === undefined) throw malformed(message, `side=${view.getUint8(48)}`);
  const reserved = view.getUint8(49) | view.getUint16(50) | view.getUint32(52);
  if ((reserved | view.getUint32(56) | view.getUint32(60)) !== 0) {
    throw malformed(message, "bytes behind the side are not zero");
  }
  if (price <= 0n || quantity <= 0n) {
    throw malformed(message, `price=${price.toString()} quantity=${quantity.toString()}`);
  }
  return {
    id: message.id,
    timestampNs: message.timestampNs,
    price,
    quantity,
    makerOrderId: view.getBigUint64(16, true),
    takerOrderId: view.getBigUint64(24, true),
    buyer: view.getBigUint64(32, true),
    seller: view.getBigUint64(40, true),
    takerSide,
  };
}

function isAmount(value: bigint): boolean {
  return value > 0n && BigInt.asIntN(64, value) === value;
}

function isU64(value: bigint): boolean {
  return BigInt.asUintN(64, value) === value;
}

function unencodable(trade: Omit<Trade, "id" | "timestampNs">): GaplessError {
  const fields = ["price", "quantity", "makerOrderId", "takerOrderId", "buyer", "seller"] as const;
  const found = fields.map((field) => `${field}=${trade[field].toString()}`).join(" ");
  return new GaplessError(
    "INPUT_MALFORMED",
    `No message can hold this trade: ${found}. ` +
      "Expected price and quantity from 1 to 2^63 - 1, the others from 0 to 2^64 - 1.",
  );
}

function malformed(message: Message, found: string): GaplessError {
  return new GaplessError(
    "MESSAGE_MALFORMED",
    `Message ${message.id.toString()} is no trade: ${found}. Expected ${tradeBytes} bytes with ` +
      "price and quantity above zero.",
  );
}
