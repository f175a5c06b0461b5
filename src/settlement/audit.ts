/**
 * The proof that a ledger holds exactly the trades that were made: no trade missing, none twice,
 * nothing out of thin air.
 *
 * Postings and trades are both read in the order of their ids, side by side, so memory grows with
 * the number of accounts and not with that of trades. All sums are taken here, in bigint.
 */
import { createHash } from "node:crypto";
import { GaplessError } from "../errors.ts";
import { addTo, amountsOf, type Amounts, type Book } from "./book.ts";
import { readMarket } from "./ledger-market.ts";
import { readBalances, readEntries, type Balance, type Entry } from "./ledger-scan.ts";
import {
  externalAccount,
  openingEntry,
  openingPostings,
  postingsFor,
  type OpeningBalance,
  type Posting,
} from "./postings.ts";
import type { DatabaseSync } from "node:sqlite";
import type { Trade } from "../trade.ts";

export interface LedgerAuditOptions {
  /** The ledger: a connection without a transaction under way, used by nobody else meanwhile. */
  readonly database: DatabaseSync;
  /** What was really traded, ascending by id. A trade that has yet to be settled counts as lost. */
  readonly trades: Iterable<Trade> | AsyncIterable<Trade>;
  /** What each account should have brought; not compared where it is not given. */
  readonly openingBalance?: OpeningBalance;
  /** Trades through this id are no longer to be had and their entries not compared. 0n if none. */
  readonly afterId?: bigint;
}

/** The money of one asset. Conserved where `total` is zero and `balances` equals `deposits`. */
export interface AssetAudit {
  readonly asset: string;
  /** Sum of all postings, external ones too. */
  readonly total: bigint;
  /** Sum of the balances of all users. */
  readonly balances: bigint;
  /** Sum of what users brought. */
  readonly deposits: bigint;
}

export interface LedgerAudit {
  /** Nothing lost, nothing duplicated, everything conserved, every balance right. */
  readonly passed: boolean;
  /** Trades that are posted exactly as they should be. */
  readonly settled: number;
  /** Trades that have no entry. */
  readonly lost: number;
  /** Entries that are not what their trade calls for, or that no trade calls for. */
  readonly duplicated: number;
  /** Entries through `afterId`, which were not compared. */
  readonly unverified: number;
  readonly conserved: boolean;
  readonly assets: readonly AssetAudit[];
  /** Balances that are not the sum of their postings. */
  readonly balancesWrong: number;
  /** `balancesDigest` of the balances. */
  readonly digest: string;
  /** The first findings, as sentences. */
  readonly findings: readonly string[];
}

const findingsMax = 20;
const textBytesMax = 65_536;

/**
 * Reads one moment of the ledger, whatever its writer does meanwhile. Blocks the event loop for
 * some milliseconds at a time.
 *
 * @throws GaplessError CONFIG_INVALID for a file that holds no ledger; INPUT_MALFORMED for trades
 *   that do not ascend; whatever `trades` throws.
 */
export async function auditLedger(options: LedgerAuditOptions): Promise<LedgerAudit> {
  const { database } = options;
  requireLedger(database);
  database.exec("BEGIN");
  try {
    const findings: string[] = [];
    const find = (finding: string): void => {
      if (findings.length < findingsMax) findings.push(finding);
    };
    const sums: Book = new Map();
    const compared = await compareEntries(options, sums, find);
    const balances = checkBalances(database, sums, find);
    const assets = assetAudits(sums, compared.deposits, balances.totals);
    const conserved = assets.every((it) => it.total === 0n && it.balances === it.deposits);
    for (const it of conserved ? [] : assets) {
      find(
        `${it.asset}: postings add up to ${it.total.toString()}, balances to ` +
          `${it.balances.toString()}, deposits to ${it.deposits.toString()}.`,
      );
    }
    const { settled, lost, duplicated, unverified } = compared;
    return {
      passed: lost === 0 && duplicated === 0 && conserved && balances.wrong === 0,
      settled,
      lost,
      duplicated,
      unverified,
      conserved,
      assets,
      balancesWrong: balances.wrong,
      digest: balances.digest,
      findings,
    };
  } finally {
    database.exec("ROLLBACK");
  }
}

/**
 * SHA-256, in hexadecimal, of the balances as text: a line `account asset amount` each, with
 * single blanks between and "\n" behind, numbers in decimal, ascending by account and then by
 * the bytes of the asset. Balances of zero are left out, and so is "external".
 *
 * @param balances In that order.
 */
export function balancesDigest(balances: Iterable<Balance>): string {
  const hash = createHash("sha256");
  let text = "";
  for (const { account, asset, amount } of balances) {
    if (amount === 0n) continue;
    text += `${account.toString()} ${asset} ${amount.toString()}\n`;
    if (text.length < textBytesMax) continue;
    hash.update(text);
    text = "";
  }
  return hash.update(text).digest("hex");
}

function requireLedger(database: DatabaseSync): void {
  const tables = database.prepare(
    `SELECT name FROM sqlite_schema WHERE name IN ('market', 'postings', 'balances')`,
  );
  if (tables.all().length === 3) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `There is no ledger in ${database.location() ?? "memory"}: it lacks the tables of one.`,
  );
}

interface Compared {
  settled: number;
  lost: number;
  duplicated: number;
  unverified: number;
  readonly deposits: Amounts;
}

/** Walks entries and trades side by side; adds every posting to `sums`. */
async function compareEntries(
  options: LedgerAuditOptions,
  sums: Book,
  find: (finding: string) => void,
): Promise<Compared> {
  const { database, trades, openingBalance, afterId = 0n } = options;
  const market = readMarket(database);
  const compared: Compared = {
    settled: 0,
    lost: 0,
    duplicated: 0,
    unverified: 0,
    deposits: new Map(),
  };
  const entries = readEntries(database);

  function next(): Entry | undefined {
    const result = entries.next();
    if (result.done === true) return undefined;
    for (const { account, asset, amount } of result.value.postings) {
      addTo(amountsOf(sums, account), asset, amount);
    }
    return result.value;
  }

  function withoutTrade({ id }: Entry): void {
    if (id <= afterId) {
      compared.unverified++;
    } else {
      compared.duplicated++;
      find(`Entry ${id.toString()} belongs to no trade.`);
    }
  }

  let entry = next();
  for (; entry !== undefined && entry.id < 0n; entry = next()) {
    const isRight = addDeposit(entry, compared.deposits) && isAsPromised(entry, openingBalance);
    if (!isRight) {
      compared.duplicated++;
      find(`Entry ${entry.id.toString()} is no opening deposit.`);
    }
  }
  let lastId = 0n;
  for await (const trade of trades) {
    requireAscending(lastId, trade.id);
    lastId = trade.id;
    if (trade.id <= afterId) continue;
    for (; entry !== undefined && entry.id < trade.id; entry = next()) withoutTrade(entry);
    if (entry?.id !== trade.id) {
      compared.lost++;
      find(`Trade ${trade.id.toString()} is not settled.`);
      continue;
    }
    if (isEqual(entry, postingsFor(trade, market))) {
      compared.settled++;
    } else {
      compared.duplicated++;
      find(`Entry ${trade.id.toString()} is not what its trade calls for.`);
    }
    entry = next();
  }
  for (; entry !== undefined; entry = next()) withoutTrade(entry);
  return compared;
}

function requireAscending(lastId: bigint, id: bigint): void {
  if (id > lastId) return;
  throw new GaplessError(
    "INPUT_MALFORMED",
    `The trades to audit by do not ascend: ${id.toString()} comes after ${lastId.toString()}.`,
  );
}

function isEqual(entry: Entry, postings: readonly Posting[]): boolean {
  return (
    entry.postings.length === postings.length &&
    entry.postings.every((posting, leg) => {
      const other = postings[leg];
      return (
        posting.leg === BigInt(leg) &&
        posting.account === other?.account &&
        posting.asset === other.asset &&
        posting.amount === other.amount
      );
    })
  );
}

/** Whether a deposit is the one that the account was to bring. */
function isAsPromised(entry: Entry, openingBalance: OpeningBalance | undefined): boolean {
  if (openingBalance === undefined) return true;
  const account = -1n - entry.id;
  return isEqual(entry, openingPostings(account, openingBalance(account)));
}

/** Adds up what the user of an opening entry brought; false where another account is in it. */
function addDeposit(entry: Entry, deposits: Amounts): boolean {
  let valid = true;
  for (const { account, asset, amount } of entry.postings) {
    if (account === externalAccount) continue;
    addTo(deposits, asset, amount);
    valid &&= openingEntry(account) === entry.id && amount > 0n;
  }
  return valid;
}

/** Compares the balances with `sums`, and takes their totals and digest on the way. */
function checkBalances(
  database: DatabaseSync,
  sums: Book,
  find: (finding: string) => void,
): { wrong: number; totals: Amounts; digest: string } {
  const totals: Amounts = new Map();
  let wrong = 0;
  let stored = 0;

  function* checked(): Generator<Balance> {
    for (const balance of readBalances(database)) {
      const { account, asset, amount } = balance;
      stored++;
      addTo(totals, asset, amount);
      const sum = account === externalAccount ? undefined : sums.get(account)?.get(asset);
      if (sum !== amount) {
        wrong++;
        find(
          `Account ${account.toString()} has ${asset}=${amount.toString()}, ` +
            `its postings add up to ${String(sum ?? "nothing")}.`,
        );
      }
      yield balance;
    }
  }

  const digest = balancesDigest(checked());
  let posted = 0;
  for (const [account, amounts] of sums) posted += account === externalAccount ? 0 : amounts.size;
  if (posted > stored) {
    wrong += posted - stored;
    find(`Accounts have postings and no balance: ${posted - stored}.`);
  }
  return { wrong, totals, digest };
}

function assetAudits(sums: Book, deposits: Amounts, balances: Amounts): AssetAudit[] {
  const totals: Amounts = new Map();
  for (const amounts of sums.values()) {
    for (const [asset, amount] of amounts) addTo(totals, asset, amount);
  }
  const assets = new Set([...totals.keys(), ...balances.keys()]);
  return [...assets].sort().map((asset) => ({
    asset,
    total: totals.get(asset) ?? 0n,
    balances: balances.get(asset) ?? 0n,
    deposits: deposits.get(asset) ?? 0n,
  }));
}
