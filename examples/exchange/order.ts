/**
 * An order as the feed publishes it, and its fixed encoding as the `bytes` of a message.
 *
 *   0          8           16             24     25      26
 *   | id u64   | price i64 | quantity i64 | kind | side  | zeros to 32 |
 *
 * All little-endian. Price and quantity count the market's smallest units.
 */
import { GaplessError, type Message } from "gapless/flow";

export type Side = "buy" | "sell";

export interface Order {
  readonly kind: "new" | "amend" | "cancel";
  readonly id: bigint;
  readonly side: Side;
  readonly price: bigint;
  /** What is to rest in the book; of a cancel, anything. */
  readonly quantity: bigint;
}

export const orderBytes = 32;

const kinds = ["new", "amend", "cancel"] as const;
const sides = ["buy", "sell"] as const;

export function encodeOrder(order: Order): Uint8Array {
  const bytes = new Uint8Array(orderBytes);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, order.id, true);
  view.setBigInt64(8, order.price, true);
  view.setBigInt64(16, order.quantity, true);
  view.setUint8(24, kinds.indexOf(order.kind));
  view.setUint8(25, sides.indexOf(order.side));
  return bytes;
}

/** @throws GaplessError MESSAGE_MALFORMED for bytes that are no order. */
export function decodeOrder({ id, bytes }: Message): Order {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = bytes.length === orderBytes ? kinds[view.getUint8(24)] : undefined;
  const side = bytes.length === orderBytes ? sides[view.getUint8(25)] : undefined;
  if (kind === undefined || side === undefined) {
    throw new GaplessError("MESSAGE_MALFORMED", `Message ${id.toString()} is no order.`);
  }
  return {
    kind,
    side,
    id: view.getBigUint64(0, true),
    price: view.getBigInt64(8, true),
    quantity: view.getBigInt64(16, true),
  };
}
