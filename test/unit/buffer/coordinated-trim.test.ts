/** One service trims the buffer of another through its log. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { CoordinatedTrim, dueTrim } from "../../../src/buffer/coordinated-trim.ts";
import { GaplessError } from "../../../src/errors.ts";
import type { LogCommand } from "../../../src/flow/replicated-log.ts";
import { hasCode } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

test("a trim leaves what is retained, only moves forward, and is never more than a step late", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const id = fc.bigInt(1n, 5000n);
  await fc.assert(
    fc.asyncProperty(
      fc.array(id, { maxLength: 60 }),
      fc.bigInt(0n, 800n),
      fc.bigInt(1n, 400n),
      async (processed, retained, step) => {
        const trims: bigint[] = [];
        const propose = async (command: LogCommand): Promise<bigint> => {
          assert.ok(command.kind === "trim");
          return BigInt(trims.push(command.beforeId));
        };
        const trim = new CoordinatedTrim({ log: { propose }, retained, step });
        let newest = 0n;
        for (const tradeId of processed) {
          if (tradeId > newest) newest = tradeId;
          const last = trims.at(-1) ?? 0n;
          const proposed = await trim.processed(tradeId);
          if (proposed !== undefined) {
            assert.equal(proposed, newest - retained);
            assert.ok(proposed >= last + step);
          }
          assert.ok(newest - retained < (trims.at(-1) ?? 0n) + step);
        }
      },
    ),
    { seed },
  );
});

test("a trim that the log did not take is proposed again, further on", async () => {
  let isDown = true;
  const trims: LogCommand[] = [];
  const propose = async (command: LogCommand): Promise<bigint> => {
    if (isDown) throw new GaplessError("PEER_UNAVAILABLE", "Nobody answers.");
    return BigInt(trims.push(command));
  };
  const trim = new CoordinatedTrim({ log: { propose }, retained: 100n, step: 10n });
  await assert.rejects(trim.processed(200n), hasCode("PEER_UNAVAILABLE"));
  isDown = false;
  assert.equal(await trim.processed(205n), 105n);
  assert.deepEqual(trims, [{ kind: "trim", beforeId: 105n }]);
});

test("results that come while a trim is proposed are made up for by the next", async () => {
  const answers: (() => void)[] = [];
  const propose = (): Promise<bigint> => new Promise((resolve) => answers.push(() => resolve(1n)));
  const trim = new CoordinatedTrim({ log: { propose }, retained: 0n, step: 1n });
  const first = trim.processed(5n);
  assert.equal(await trim.processed(9n), undefined);
  assert.equal(answers.length, 1);
  answers[0]?.();
  assert.equal(await first, 5n);
  const second = trim.processed(6n);
  answers[1]?.();
  assert.equal(await second, 9n);
  assert.equal(dueTrim(9n, 0n, 1n, 9n), undefined);
});
