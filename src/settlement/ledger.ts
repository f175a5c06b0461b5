/**
 * The ledger in SQLite: what `sqliteSink` needs to know of it.
 *
 *   market     the one market of this ledger; another one is refused
 *   postings   entry = id of the trade, legs 0 to 3 in the order of `postingsFor`
 *              entry = -1 - account for the opening deposit of a user, written in the
 *                      transaction of the first trade that names the account
 *   balances   the sum of the postings of a user's account in an asset
 *
 * "external" has postings and no balance: it is minus the sum of all deposits, which no 64 bits
 * need hold. An account is known when it has a balance. Nothing is remembered between batches,
 * so one that is rolled back leaves no trace.
 */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import { GaplessError } from "../errors.ts";
import { decodeTrade, type Market } from "../trade.ts";
import { addTo, amountsOf, type Book } from "./book.ts";
import { marketSchema, requireMarket, requireSameMarket } from "./ledger-market.ts";
import { balanceReader, rowWriter } from "./ledger-rows.ts";
import {
  openingEntry,
  openingPostings,
  postingsFor,
  type OpeningBalance,
  type Posting,
} from "./postings.ts";
import type { Batch } from "../message.ts";

export interface LedgerOptions {
  readonly market: Market;
  /** Called within the transaction, and again after a rollback: answer by `account` alone. */
  readonly openingBalance: OpeningBalance;
}

/** Fits the `tables` of a SQLite sink. */
export interface LedgerTables {
  readonly schema: string;
  prepare(database: DatabaseSync): (batch: Batch) => void;
}

const ledgerSchema = `
  CREATE TABLE IF NOT EXISTS postings (
    entry   INTEGER NOT NULL, -- id of the trade; -1 - account for an opening deposit
    leg     INTEGER NOT NULL,
    account INTEGER NOT NULL, -- -1 is external, the other side of every deposit
    asset   TEXT    NOT NULL,
    amount  INTEGER NOT NULL, -- smallest units; above zero the account receives
    PRIMARY KEY (entry, leg)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS balances (
    account INTEGER NOT NULL,
    asset   TEXT    NOT NULL,
    amount  INTEGER NOT NULL,
    PRIMARY KEY (account, asset)
  ) STRICT, WITHOUT ROWID;`;

/**
 * Settles trades into a ledger of one market.
 *
 * @throws GaplessError CONFIG_INVALID for a market that is none. Opening a file of another market
 *   throws the same; writing throws MESSAGE_MALFORMED for a message that is no trade, and
 *   AMOUNT_OVERFLOW where an id, an account, an amount or a balance leaves the signed 64 bits
 *   of SQLite.
 */
export function ledgerTables(options: LedgerOptions): LedgerTables {
  const { openingBalance } = options;
  const market = requireMarket(options.market);
  return {
    schema: marketSchema(market) + ledgerSchema,
    prepare(database) {
      requireSameMarket(database, market);
      const readBalances = balanceReader(database);
      const insertPostings = rowWriter(
        database,
        "INSERT INTO postings (entry, leg, account, asset, amount)",
        5,
      );
      const upsertBalances = rowWriter(
        database,
        "INSERT INTO balances (account, asset, amount)",
        3,
        "ON CONFLICT (account, asset) DO UPDATE SET amount = excluded.amount",
      );

      return (batch) => {
        const postings: SQLInputValue[] = [];
        const changes: Book = new Map();
        for (const message of batch) {
          enter(message.id, postingsFor(decodeTrade(message), market), postings, changes);
        }
        const users = [...changes.keys()].sort(ascending);
        const before = readBalances(users);
        for (const account of users) {
          if (before.has(account)) continue;
          const deposit = openingPostings(account, openingBalance(account));
          enter(openingEntry(account), deposit, postings, changes);
        }
        insertPostings(postings);
        upsertBalances(balancesAfter(users, before, changes));
      };
    },
  };
}

/** Adds the legs of an entry to the rows to be written, and to what they change. */
function enter(
  entry: bigint,
  postings: readonly Posting[],
  rows: SQLInputValue[],
  changes: Book,
): void {
  let leg = 0;
  for (const { account, asset, amount } of postings) {
    if (!isI64(entry) || !isI64(account) || !isI64(amount)) {
      throw overflow(
        `entry=${entry.toString()} account=${account.toString()} ${asset}=${amount.toString()}`,
      );
    }
    rows.push(entry, leg, account, asset, amount);
    addTo(amountsOf(changes, account), asset, amount);
    leg++;
  }
}

/** The rows of the balances that `changes` leads to. */
function balancesAfter(users: readonly bigint[], before: Book, changes: Book): SQLInputValue[] {
  const rows: SQLInputValue[] = [];
  for (const account of users) {
    const amountsBefore = before.get(account);
    for (const [asset, change] of changes.get(account) ?? []) {
      const amount = (amountsBefore?.get(asset) ?? 0n) + change;
      if (!isI64(amount)) {
        throw overflow(`balance of account ${account.toString()}, ${asset}=${amount.toString()}`);
      }
      rows.push(account, asset, amount);
    }
  }
  return rows;
}

function ascending(one: bigint, other: bigint): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function isI64(value: bigint): boolean {
  return BigInt.asIntN(64, value) === value;
}

function overflow(what: string): GaplessError {
  return new GaplessError(
    "AMOUNT_OVERFLOW",
    `A number leaves the signed 64 bits that the ledger keeps it in: ${what}. ` +
      "Nothing was written. A market with smaller scales has room for larger amounts.",
  );
}
