/** What is traded here, by whom, and what they began with. */
import type { Market } from "gapless/flow";

/** Prices in cents, quantities in units of 10^-8 BTC; so dollars are counted in 10^-10. */
export const market: Market = { base: "BTC", quote: "USD", priceScale: 2, quantityScale: 8 };

const users = 1000n;
const bitcoin = 10n ** BigInt(market.quantityScale);
const dollar = 10n ** BigInt(market.priceScale + market.quantityScale);

/** A recorded log says nothing of users: an order belongs to one by the last digits of its id. */
export function userOf(orderId: bigint): bigint {
  return orderId % users;
}

/** What a user deposited before the first trade, in smallest units: more the higher the number. */
export function openingBalance(user: bigint): Record<string, bigint> {
  return {
    [market.base]: (1_000n + user) * bitcoin,
    [market.quote]: (250_000n + 100n * user) * dollar,
  };
}
