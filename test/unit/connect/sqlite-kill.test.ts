/** The two rooms that keep rows in SQLite, killed where it hurts. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { makeDirectory, query } from "./fixture.ts";

async function apply(
  context: TestContext,
  filePath: string,
  room: string,
  killAt = 0,
): Promise<[status: number | null, signal: string | null]> {
  const program = path.join(import.meta.dirname, "apply-batches.ts");
  const child = spawn(process.execPath, [program, filePath, room, String(killAt)], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const [status, signal] = (await once(child, "close")) as [number | null, string | null];
  return [status, signal];
}

function readTables(filePath: string): Record<string, unknown[][]> {
  const names = query(filePath, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1");
  return Object.fromEntries(
    names
      .flat()
      .map((name): [string, unknown[][]] => [
        String(name),
        query(filePath, `SELECT * FROM ${String(name)} ORDER BY 1, 2`),
      ]),
  );
}

for (const room of ["ledger", "candles"]) {
  test(`G5: ${room} killed before commits ends with the rows of a run without`, async (context) => {
    const directory = makeDirectory(context);
    const undisturbed = path.join(directory, "undisturbed.sqlite");
    const killed = path.join(directory, "killed.sqlite");
    const whole = apply(context, undisturbed, room);

    let position = 0n;
    for (const killAt of [1, 2, 4]) {
      assert.deepEqual(await apply(context, killed, room, killAt), [null, "SIGKILL"]);
      // The batch that was written and not committed is not there.
      const [row] = query(killed, "SELECT position FROM checkpoint");
      const reached = (row?.[0] ?? 0n) as bigint;
      assert.equal(reached > position, killAt > 1, `killAt=${killAt}`);
      position = reached;
    }
    assert.deepEqual(await apply(context, killed, room), [0, null]);
    assert.deepEqual(await whole, [0, null]);
    assert.deepEqual(readTables(killed), readTables(undisturbed));
  });
}
