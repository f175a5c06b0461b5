/** Amounts by account and asset, exact. */
export type Amounts = Map<string, bigint>;

export type Book = Map<bigint, Amounts>;

/** The amounts of an account, to be added to. */
export function amountsOf(book: Book, account: bigint): Amounts {
  const known = book.get(account);
  if (known !== undefined) return known;
  const amounts: Amounts = new Map();
  book.set(account, amounts);
  return amounts;
}

export function addTo(amounts: Amounts, asset: string, amount: bigint): void {
  amounts.set(asset, (amounts.get(asset) ?? 0n) + amount);
}
