/** Reading and writing the rows of the ledger, many a statement: what makes it fast. */
import { amountsOf, type Book } from "./book.ts";
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";

/** Measured: twice as fast as one row a statement, and no faster beyond. */
const rowsPerStatement = 64;

/** Reads the balances of accounts, many a statement; who has none is not in the result. */
export function balanceReader(database: DatabaseSync): (accounts: readonly bigint[]) => Book {
  const places = Array<string>(rowsPerStatement).fill("?").join(", ");
  const select = database.prepare(
    `SELECT account, asset, amount FROM balances WHERE account IN (${places})`,
  );
  select.setReturnArrays(true);
  return (accounts) => {
    const book: Book = new Map();
    for (let index = 0; index < accounts.length; index += rowsPerStatement) {
      // Null equals no account.
      const some: SQLInputValue[] = accounts.slice(index, index + rowsPerStatement);
      while (some.length < rowsPerStatement) some.push(null);
      const rows = select.all(...some) as unknown as [bigint, string, bigint][];
      for (const [account, asset, amount] of rows) amountsOf(book, account).set(asset, amount);
    }
    return book;
  };
}

/** Writes rows given as one list of values, many a statement. */
export function rowWriter(
  database: DatabaseSync,
  insert: string,
  columns: number,
  conflict = "",
): (values: readonly SQLInputValue[]) => void {
  const row = `(${Array<string>(columns).fill("?").join(", ")})`;
  const prepare = (rows: number): StatementSync =>
    database.prepare(`${insert} VALUES ${Array<string>(rows).fill(row).join(", ")} ${conflict}`);
  const many = prepare(rowsPerStatement);
  const one = prepare(1);
  const manyValues = rowsPerStatement * columns;
  return (values) => {
    let index = 0;
    for (; index + manyValues <= values.length; index += manyValues) {
      many.run(...values.slice(index, index + manyValues));
    }
    for (; index < values.length; index += columns) {
      one.run(...values.slice(index, index + columns));
    }
  };
}
