/** A journal against a list of its messages. */
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { followJournal } from "../../../src/flow/journal-follower.ts";
import { openJournal, type Journal } from "../../../src/flow/journal.ts";
import type { Message } from "../../../src/message.ts";
import { copyAsKilled, makeFastDirectory } from "../../support/queue-records.ts";
import { idsOf, makeMessage, pretendReboot, readAll, withCode } from "./journal-scratch.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
const segmentBytes = 4096;

type Action =
  | { readonly kind: "append"; readonly sizes: readonly number[]; readonly skip: number }
  | { readonly kind: "flush" | "reopen" | "kill" | "reboot" }
  | { readonly kind: "read"; readonly at: number; readonly limit: number };

const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("append" as const),
        sizes: fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 12 }),
        skip: fc.integer({ min: 1, max: 3 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("flush" as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reopen", "kill", "reboot") }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("read" as const),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        limit: fc.integer({ min: 1, max: 40 }),
      }),
    },
  ),
  { minLength: 1, maxLength: 30 },
);

test("G3: a journal reopened or killed at any moment equals a list of its messages", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const root = makeFastDirectory(t);
  let directories = 0;
  const nextDirectory = (): string => path.join(root, String((directories += 1)));

  const run = async (steps: readonly Action[]): Promise<void> => {
    let directory = nextDirectory();
    const open = (): Promise<Journal> =>
      openJournal({ directory, segmentBytes, preallocate: false });
    const model: Message[] = [];
    let journal = await open();
    let follower = followJournal(directory);
    try {
      for (const step of steps) {
        if (step.kind === "append") {
          const batch: Message[] = [];
          for (const size of step.sizes) {
            const prevId = (batch.at(-1) ?? model.at(-1))?.id ?? 0n;
            batch.push(makeMessage(prevId + BigInt(step.skip), prevId, size));
          }
          journal.append(batch);
          model.push(...batch);
        } else if (step.kind === "read") {
          const at = Math.floor(step.at * model.length);
          const durable = model.filter(({ id }) => id <= journal.durableId);
          const fromId = (model[at - 1]?.id ?? 0n) + 1n;
          const expected = durable.slice(at, at + step.limit);
          const reading = journal.read(fromId, step.limit);
          if (expected.length > 0) assert.deepEqual(await reading, expected);
          else await assert.rejects(reading, withCode("DATA_NOT_YET_AVAILABLE"));
          assert.deepEqual(follower.read(fromId, step.limit), expected);
        } else {
          if (step.kind === "flush") await journal.flush();
          const copy = nextDirectory();
          if (step.kind === "kill" || step.kind === "reboot") copyAsKilled(directory, copy);
          if (step.kind === "reboot") pretendReboot(copy);
          if (step.kind !== "flush") {
            await journal.close();
            follower.close();
            if (step.kind !== "reopen") directory = copy;
            journal = await open();
            follower = followJournal(directory);
          }
          assert.equal(journal.durableId, model.at(-1)?.id ?? 0n);
          assert.deepEqual(idsOf(follower.read(1n, 1000)), idsOf(model));
        }
        assert.equal(journal.lastId, model.at(-1)?.id ?? 0n);
      }
      await journal.flush();
      assert.deepEqual(await readAll(journal), model);
    } finally {
      follower.close();
      await journal.close();
    }
  };
  await fc.assert(fc.asyncProperty(actions, run), { numRuns: 100, seed });
});

/** Steps between ids: mostly one, sometimes as far as ids go. */
const skips = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(1n) },
    { weight: 3, arbitrary: fc.bigInt(2n, 50n) },
    { weight: 1, arbitrary: fc.bigInt(51n, 2n ** 55n) },
  ),
  { minLength: 1, maxLength: 200 },
);

test("whatever ids are skipped, a read begins with the first that is not before", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const root = makeFastDirectory(t);
  let directories = 0;
  const run = async (steps: readonly bigint[], wanted: readonly bigint[]): Promise<void> => {
    const directory = path.join(root, String((directories += 1)));
    await using journal = await openJournal({ directory, segmentBytes, preallocate: false });
    let lastId = 0n;
    const messages = steps.map((step) => {
      const message = makeMessage(lastId + step, lastId, 20);
      lastId = message.id;
      return message;
    });
    journal.append(messages);
    await journal.flush();
    const near = messages.flatMap(({ id }) => [id - 1n, id, id + 1n]);
    for (const fromId of [...near, ...wanted]) {
      const expected = messages.filter(({ id }) => id >= fromId).slice(0, 2);
      const reading = journal.read(fromId, 2);
      if (expected.length > 0) assert.deepEqual(await reading, expected);
      else await assert.rejects(reading, withCode("DATA_NOT_YET_AVAILABLE"));
    }
  };
  const anywhere = fc.array(fc.bigInt(0n, 2n ** 64n), { maxLength: 20 });
  await fc.assert(fc.asyncProperty(skips, anywhere, run), { numRuns: 60, seed });
});
