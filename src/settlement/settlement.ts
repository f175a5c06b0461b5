/** Settlement: trades into a double-entry ledger, exactly once, and the proof of it. */
export {
  auditLedger,
  balancesDigest,
  type AssetAudit,
  type LedgerAudit,
  type LedgerAuditOptions,
} from "./audit.ts";
export { ledgerTables, type LedgerOptions, type LedgerTables } from "./ledger.ts";
export { type Balance } from "./ledger-scan.ts";
export {
  externalAccount,
  openingEntry,
  openingPostings,
  postingsFor,
  type OpeningBalance,
  type Posting,
} from "./postings.ts";
