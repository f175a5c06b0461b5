/**
 * Double entry: every trade and every deposit is an entry of legs that add up to zero per asset.
 *
 * Amounts count the smallest unit of an asset in its market: base in lots of 10^-quantityScale,
 * quote in 10^-(priceScale + quantityScale), where price × quantity is exact.
 */
import { GaplessError } from "../errors.ts";
import type { Market, Trade } from "../trade.ts";

export interface Posting {
  readonly account: bigint;
  readonly asset: string;
  /** Above zero: the account receives. */
  readonly amount: bigint;
}

/** What a user brings when his account is first seen: amounts by asset, none below zero. */
export type OpeningBalance = (account: bigint) => Readonly<Record<string, bigint>>;

/** The other side of every deposit. The accounts of users are u64, so none is below zero. */
export const externalAccount = -1n;

/** The legs of a trade: the buyer's and the seller's, first in base, then in quote. */
export function postingsFor(
  trade: Trade,
  market: Market,
): readonly [Posting, Posting, Posting, Posting] {
  const { buyer, seller, quantity } = trade;
  const { base, quote } = market;
  const paid = trade.price * quantity;
  return [
    { account: buyer, asset: base, amount: quantity },
    { account: seller, asset: base, amount: -quantity },
    { account: buyer, asset: quote, amount: -paid },
    { account: seller, asset: quote, amount: paid },
  ];
}

/**
 * The legs of a user's opening deposit, two an asset, assets in the order of their names. Empty
 * for a user who brings nothing.
 *
 * @throws GaplessError CONFIG_INVALID for an amount below zero, or a name that is no asset's.
 */
export function openingPostings(
  account: bigint,
  deposit: Readonly<Record<string, bigint>>,
): readonly Posting[] {
  const postings: Posting[] = [];
  for (const asset of Object.keys(deposit).sort()) {
    requireAsset(asset);
    const amount = deposit[asset] ?? 0n;
    if (amount < 0n) {
      throw new GaplessError(
        "CONFIG_INVALID",
        `The opening balance of account ${account.toString()} is below zero: ` +
          `${asset}=${amount.toString()}.`,
      );
    }
    if (amount === 0n) continue;
    postings.push({ account, asset, amount }, { account: externalAccount, asset, amount: -amount });
  }
  return postings;
}

/** Id of the entry of an account's opening deposit. Below zero, where no trade's is. */
export function openingEntry(account: bigint): bigint {
  return -1n - account;
}

/** @throws GaplessError CONFIG_INVALID for a name that the lines of a digest cannot hold. */
export function requireAsset(asset: string): void {
  if (!/^[\x21-\x7e]+$/.test(asset)) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `An asset needs a name of visible ASCII without blanks: ${JSON.stringify(asset)}.`,
    );
  }
}
