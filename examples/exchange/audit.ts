/**
 * The proof of a run, from what is on disk alone.
 *
 * The orders of the journal go once more through a new book. Its trades have to be those of the
 * engine's output and of the buffer, byte for byte, and the ledger and the candles have to hold
 * exactly those trades.
 */
import path from "node:path";
import { auditCandles } from "gapless/analytics";
import { openMsgBuffer } from "gapless/buffer";
import { openSqliteReader, readCheckpoint } from "gapless/connect/sqlite";
import {
  decodeTrade,
  isGaplessError,
  openJournal,
  type Archive,
  type Message,
  type Trade,
} from "gapless/flow";
import { auditLedger } from "gapless/settlement";
import type { Audit, AuditLine } from "gapless/supervise";
import { StoreAudit, TradeDigest } from "./audit-trades.ts";
import { Book } from "./book.ts";
import { market, openingBalance } from "./market.ts";
import { readTrades } from "./output.ts";
import { stream } from "./trade-sink.ts";

const batchMax = 4096;

const audit: Audit = async (context) => {
  const engine = context.dataDirectory("matching-engine");
  await using journal = await openJournal({ directory: path.join(engine, "journal") });
  await using trades = await openMsgBuffer({
    component: "trades",
    storage: { dbPath: engine, cfName: "trades" },
  });
  using ledger = openSqliteReader(path.join(context.dataDirectory("settlement"), "ledger.sqlite"));
  using candles = openSqliteReader(path.join(context.dataDirectory("analytics"), "candles.sqlite"));

  const matching = await auditMatching(journal, {
    output: readTrades(path.join(engine, "output")),
    buffer: readAll(trades.archive),
  });
  const settled = await auditLedger({
    database: ledger,
    trades: decoded(trades.archive),
    openingBalance,
  });
  const analysed = await auditCandles({ database: candles, trades: decoded(trades.archive) });
  const fed = context.progress.get("feed");
  const engineCounts = context.progress.get("matching-engine")?.counts ?? {};
  const counts = { ...fed?.counts, ...engineCounts };

  const fedThrough = fed?.produced ?? 0n;
  const fedAtMost = fed?.total ?? fedThrough;
  const lost = matching.lost + settled.lost + analysed.lost;
  const duplicated = matching.duplicated + settled.duplicated + analysed.duplicated;
  const lines: AuditLine[] = [
    {
      label: "orders in",
      value: `${format(matching.orders)}${describeCounts(counts)}`,
      // After --resume and an early drain, the feed has not come to the end of the journal again.
      holds: fedThrough <= matching.orders && matching.orders <= fedAtMost,
    },
    {
      label: "trades published",
      value: format(matching.published),
      holds: matching.expected === matching.published,
    },
    {
      label: "journalled",
      value: format(matching.journalled),
      holds: matching.expected === matching.journalled,
    },
    {
      label: "settled",
      value: format(settled.settled),
      holds: BigInt(settled.settled) === matching.published,
    },
    {
      label: "analysed",
      value: format(analysed.analysed),
      holds: BigInt(analysed.analysed) === matching.published,
    },
    { label: "lost", value: format(lost), holds: lost === 0 },
    { label: "duplicated", value: format(duplicated), holds: duplicated === 0 },
    { label: "gaps filled", value: describeGaps({ settlement: ledger, analytics: candles }) },
    ...settled.assets.map(({ asset, total, balances, deposits }) => ({
      label: `balances ${asset}`,
      value: `${formatAmount(balances, asset)} as deposited`,
      holds: total === 0n && balances === deposits,
    })),
    { label: "digest trades", value: matching.digest, holds: matching.isSame },
    {
      label: "digest balances",
      value: settled.digest,
      holds: settled.passed && settled.balancesWrong === 0,
    },
    { label: "digest candles", value: analysed.digest, holds: analysed.passed },
    ...[...settled.findings, ...analysed.findings, ...matching.findings].map((finding) => ({
      label: "finding",
      value: finding,
      holds: false,
    })),
  ];
  return { holds: lines.every(({ holds }) => holds !== false), lines };
};

export default audit;

interface MatchingAudit {
  /** Orders of the journal, which are numbered from 1 without a hole. */
  readonly orders: bigint;
  /** Trades that they make, that the output has, and that the buffer has. */
  readonly expected: bigint;
  readonly journalled: bigint;
  readonly published: bigint;
  readonly lost: number;
  readonly duplicated: number;
  /** Of the trades that the orders make. */
  readonly digest: string;
  /** Whether the output and the buffer have the same. */
  readonly isSame: boolean;
  readonly findings: readonly string[];
}

async function auditMatching(
  journal: Archive,
  stores: Record<"output" | "buffer", AsyncIterator<Message, undefined>>,
): Promise<MatchingAudit> {
  const book = new Book();
  const made = new TradeDigest();
  const output = new StoreAudit("output", stores.output);
  const buffer = new StoreAudit("buffer", stores.buffer);
  for await (const order of readAll(journal)) {
    for (const trade of book.apply(order)) {
      made.add(trade);
      await output.expect(trade);
      await buffer.expect(trade);
    }
  }
  await output.end();
  await buffer.end();
  const digest = made.end();
  return {
    orders: book.lastOrderId,
    expected: book.lastTradeId,
    journalled: output.kept,
    published: buffer.kept,
    lost: output.lost + buffer.lost,
    duplicated: output.duplicated + buffer.duplicated,
    digest,
    isSame: output.digest.end() === digest && buffer.digest.end() === digest,
    findings: [...output.findings, ...buffer.findings],
  };
}

async function* readAll(archive: Archive): AsyncGenerator<Message, undefined> {
  let fromId = 1n;
  while (true) {
    try {
      for (const message of await archive.read(fromId, batchMax)) {
        yield message;
        fromId = message.id + 1n;
      }
    } catch (error) {
      if (isGaplessError(error, "DATA_NOT_YET_AVAILABLE")) return undefined;
      throw error;
    }
  }
}

async function* decoded(trades: Archive): AsyncGenerator<Trade> {
  for await (const message of readAll(trades)) yield decodeTrade(message);
}

function describeGaps(databases: Record<string, Parameters<typeof readCheckpoint>[0]>): string {
  const parts = Object.entries(databases).map(([service, database]) => {
    const checkpoint = readCheckpoint(database, stream);
    const gaps = checkpoint?.gapsFilled ?? 0n;
    const messages = checkpoint?.messagesFilled ?? 0n;
    return { gaps, text: `${service} ${format(gaps)} (${format(messages)} trades)` };
  });
  const total = parts.reduce((sum, { gaps }) => sum + gaps, 0n);
  return `${format(total)}: ${parts.map(({ text }) => text).join(", ")}`;
}

function describeCounts(counts: Readonly<Record<string, bigint>>): string {
  const shown = Object.entries(counts).filter(([, count]) => count > 0n);
  if (shown.length === 0) return "";
  return ` (${shown.map(([name, count]) => `${name} ${format(count)}`).join(", ")})`;
}

/** Smallest units as whole coins and decimals. */
function formatAmount(units: bigint, asset: string): string {
  const scale =
    asset === market.base ? market.quantityScale : market.priceScale + market.quantityScale;
  const digits = units.toString().padStart(scale + 1, "0");
  return `${format(BigInt(digits.slice(0, -scale)))}.${digits.slice(-scale)} ${asset}`;
}

function format(count: bigint | number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}
