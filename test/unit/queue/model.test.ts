import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { isGaplessError } from "../../../src/errors.ts";
import type { Message } from "../../../src/message.ts";
import { openQueue, type Queue } from "../../../src/queue/queue.ts";
import { copyAsKilled, makeFastDirectory, makeMessage, readAll } from "./scratch.ts";

const notYet = (error: unknown): boolean => isGaplessError(error, "DATA_NOT_YET_AVAILABLE");

type Action =
  | { readonly kind: "append"; readonly sizes: readonly number[]; readonly skip: number }
  | { readonly kind: "flush" | "reopen" | "kill" }
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
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reopen", "kill") }) },
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

test("G3: a queue reopened or killed at any moment equals a list of its messages", async (t) => {
  const root = makeFastDirectory(t);
  let directories = 0;
  await fc.assert(
    fc.asyncProperty(actions, async (steps) => {
      const nextDirectory = (): string => path.join(root, String((directories += 1)));
      let directory = nextDirectory();
      const open = (): Promise<Queue> => openQueue({ directory, segmentBytes: 4096 });
      const model: Message[] = [];
      let queue = await open();
      try {
        for (const step of steps) {
          if (step.kind === "append") {
            const batch: Message[] = [];
            for (const size of step.sizes) {
              const prevId = (batch.at(-1) ?? model.at(-1))?.id ?? 0n;
              batch.push(makeMessage(prevId + BigInt(step.skip), prevId, size));
            }
            queue.append(batch);
            model.push(...batch);
          } else if (step.kind === "read") {
            const at = Math.floor(step.at * model.length);
            const known = model.findIndex(({ id }) => id > queue.durableId);
            const durable = known === -1 ? model : model.slice(0, known);
            const fromId = (model[at - 1]?.id ?? 0n) + 1n;
            const expected = durable.slice(at, at + step.limit);
            const reading = queue.read(fromId, step.limit);
            if (expected.length > 0) assert.deepEqual(await reading, expected);
            else await assert.rejects(reading, notYet);
          } else {
            if (step.kind === "flush") await queue.flush();
            const killed = nextDirectory();
            if (step.kind === "kill") copyAsKilled(directory, killed);
            if (step.kind !== "flush") {
              await queue.close();
              if (step.kind === "kill") directory = killed;
              queue = await open();
            }
            assert.equal(queue.durableId, model.at(-1)?.id ?? 0n);
          }
          assert.equal(queue.lastId, model.at(-1)?.id ?? 0n);
        }
        await queue.flush();
        assert.deepEqual(await readAll(queue), model);
      } finally {
        await queue.close();
      }
    }),
    { numRuns: 100 },
  );
});
