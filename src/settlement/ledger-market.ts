/** The market that a ledger is of, kept in its file: amounts mean nothing without its scales. */
import { GaplessError } from "../errors.ts";
import { requireAsset } from "./postings.ts";
import type { DatabaseSync } from "node:sqlite";
import type { Market } from "../trade.ts";

/** @throws GaplessError CONFIG_INVALID for a market that is none. */
export function requireMarket(market: Market): Market {
  requireAsset(market.base);
  requireAsset(market.quote);
  const scales = [market.priceScale, market.quantityScale];
  if (market.base === market.quote || !scales.every((it) => Number.isInteger(it) && it >= 0)) {
    throw new GaplessError(
      "CONFIG_INVALID",
      `No market: ${describe(market)}. Expected two different assets, and scales from zero up.`,
    );
  }
  return market;
}

/** Creates the table with its one row. The names were checked: nothing but visible ASCII. */
export function marketSchema(market: Market): string {
  const [base, quote] = [market.base, market.quote].map((it) => `'${it.replaceAll("'", "''")}'`);
  return `
  CREATE TABLE IF NOT EXISTS market (
    base           TEXT    NOT NULL,
    quote          TEXT    NOT NULL,
    price_scale    INTEGER NOT NULL,
    quantity_scale INTEGER NOT NULL
  ) STRICT;
  INSERT INTO market (base, quote, price_scale, quantity_scale)
    SELECT ${base}, ${quote}, ${market.priceScale}, ${market.quantityScale}
    WHERE NOT EXISTS (SELECT 1 FROM market);`;
}

/** @throws GaplessError CONFIG_INVALID where the ledger in the file is of another market. */
export function requireSameMarket(database: DatabaseSync, market: Market): void {
  const stored = readMarket(database);
  if (describe(stored) === describe(market)) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `This ledger is of another market: ${describe(stored)}. Asked for ${describe(market)}: ` +
      "give each market a file of its own.",
  );
}

/** The market that a ledger is of. */
export function readMarket(database: DatabaseSync): Market {
  const select = database.prepare("SELECT base, quote, price_scale, quantity_scale FROM market");
  const row = select.get() ?? {};
  return {
    base: row["base"] as string,
    quote: row["quote"] as string,
    priceScale: Number(row["price_scale"]),
    quantityScale: Number(row["quantity_scale"]),
  };
}

function describe({ base, quote, priceScale, quantityScale }: Market): string {
  return `${base}/${quote} priceScale=${priceScale} quantityScale=${quantityScale}`;
}
