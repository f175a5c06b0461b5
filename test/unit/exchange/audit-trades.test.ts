/** What the audit finds in a store of trades that is not what the orders make. */
import assert from "node:assert/strict";
import test from "node:test";
import { StoreAudit, TradeDigest } from "../../../examples/exchange/audit-trades.ts";
import type { Message } from "../../../src/message.ts";

function trade(id: number, content = id): Message {
  const bytes = new Uint8Array(8).fill(content);
  return { id: BigInt(id), prevId: BigInt(id - 1), timestampNs: 7n, bytes };
}

async function auditOf(stored: readonly Message[], made: readonly Message[]): Promise<StoreAudit> {
  async function* all(): AsyncGenerator<Message, undefined> {
    yield* stored;
    return undefined;
  }
  const audit = new StoreAudit("output", all());
  for (const message of made) await audit.expect(message);
  await audit.end();
  return audit;
}

const made = [trade(1), trade(2), trade(3)];
const digest = digestOf(made);

function digestOf(trades: readonly Message[]): string {
  const sum = new TradeDigest();
  for (const message of trades) sum.add(message);
  return sum.end();
}

test("a store with exactly the trades that were made has their digest", async () => {
  const audit = await auditOf([...made], made);
  assert.deepEqual([audit.kept, audit.lost, audit.duplicated], [3n, 0, 0]);
  assert.deepEqual(audit.findings, []);
  assert.equal(audit.digest.end(), digest);
});

test("a trade that is missing, wrong, twice or too many is counted and named", async () => {
  const cases = [
    { stored: [trade(1), trade(2)], lost: 1, duplicated: 0, finding: undefined },
    { stored: [trade(1), trade(2, 9), trade(3)], lost: 0, duplicated: 1, finding: /trade 2 of/ },
    { stored: [...made, trade(3)], lost: 0, duplicated: 1, finding: /trade 3 .* has no order/ },
    { stored: [trade(1), ...made], lost: 0, duplicated: 3, finding: /trade 1/ },
  ];
  for (const { stored, lost, duplicated, finding } of cases) {
    const audit = await auditOf(stored, made);
    assert.deepEqual([audit.lost, audit.duplicated], [lost, duplicated]);
    if (finding !== undefined) assert.match(audit.findings[0] ?? "", finding);
    assert.notEqual(audit.digest.end(), digest);
  }
});
