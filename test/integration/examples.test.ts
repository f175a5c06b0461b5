/** The examples that a reader of the documents is told to run. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const folder = path.resolve(import.meta.dirname, "../../examples/bus");
const execute = promisify(execFile);

async function run(program: string, ...words: string[]): Promise<string> {
  const file = path.join(folder, program);
  const { stdout } = await execute(process.execPath, ["--conditions=source", file, ...words], {
    timeout: 30_000,
  });
  return stdout.trim();
}

test("the example of the bus carries trades and signals, one run after the other", async () => {
  for (let time = 0; time < 2; time++) {
    assert.equal(await run("1-market.ts", "1000"), "1000 trades published");
    const strategies = [run("2-strategy.ts", "arbitrage"), run("2-strategy.ts", "momentum")];
    assert.deepEqual(await Promise.all(strategies), [
      "arbitrage: 500 trades of spot.BTC",
      "momentum: 500 trades of spot.ETH",
    ]);
    const lines = (await run("3-executor.ts")).split("\n");
    assert.equal(lines.length, 4);
    assert.match(lines[0] ?? "", /^\d+ from (arbitrage|momentum): \1: sell, trade \d+$/);
    assert.equal(lines.at(-1), "143 signals");
  }
});
