import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { openBuffer, type MessageBuffer } from "../../../src/buffer/buffer.ts";
import type { Message } from "../../../src/message.ts";
import { hasCode, makeMessage, temporaryDirectory } from "./fixture.ts";

type Step =
  | { readonly kind: "append"; readonly batches: readonly (readonly number[])[] }
  | { readonly kind: "appendBroken"; readonly offset: number }
  | { readonly kind: "read"; readonly at: number; readonly limit: number }
  | { readonly kind: "trim"; readonly at: number }
  | { readonly kind: "reopen" };

const skips = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 40 });
const position = fc.double({ min: 0, max: 1.05, noNaN: true });

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      batches: fc.array(skips, { minLength: 1, maxLength: 5 }),
    }),
  },
  {
    weight: 24,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      at: position,
      limit: fc.integer({ min: 1, max: 60 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("trim" as const), at: position }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("appendBroken" as const),
      offset: fc.integer({ min: -2, max: 2 }).filter((offset) => offset !== 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
);

/** A failure prints its seed; `SEED=…` runs it again. */
const seed = process.env["SEED"];
const seedFromEnvironment = seed === undefined ? {} : { seed: Number(seed) };

/** What the buffer is meant to be: a list, and the id through which it is gone. */
class Model {
  readonly messages: Message[] = [];
  trimmedId = 0n;

  get lastId(): bigint {
    return this.messages.at(-1)?.id ?? 0n;
  }

  extend(skips: readonly number[]): Message[] {
    return skips.map((skip) => {
      const message = makeMessage(this.lastId + BigInt(skip), this.lastId, skip * 37);
      this.messages.push(message);
      return message;
    });
  }

  /** An id of the stream, between its messages too, or a little past its end. */
  idAt(at: number): bigint {
    return BigInt(Math.round(Number(this.lastId) * at));
  }

  from(id: bigint): Message[] {
    return this.messages.filter((message) => message.id >= id);
  }
}

async function perform(action: Step, buffer: MessageBuffer, model: Model): Promise<void> {
  switch (action.kind) {
    case "append":
      await Promise.all(action.batches.map((batch) => buffer.append(model.extend(batch))));
      break;
    case "appendBroken": {
      const prevId = model.lastId + BigInt(action.offset);
      const broken = makeMessage(model.lastId + 5n, prevId < 0n ? 1n : prevId);
      await assert.rejects(buffer.append([broken]), hasCode("CHAIN_BROKEN"));
      break;
    }
    case "read": {
      const fromId = model.idAt(action.at);
      const read = buffer.read(fromId, action.limit);
      if (fromId > model.lastId || model.lastId === 0n) {
        await assert.rejects(read, hasCode("DATA_NOT_YET_AVAILABLE"));
      } else if (model.trimmedId > 0n && fromId <= model.trimmedId) {
        await assert.rejects(read, hasCode("DATA_TRIMMED"));
      } else {
        const found = await read;
        assert.ok(found.length <= action.limit);
        assert.deepEqual(found, model.from(fromId).slice(0, found.length));
      }
      break;
    }
    case "trim": {
      const throughId = model.idAt(action.at);
      if (throughId > model.lastId) {
        await assert.rejects(buffer.trim(throughId), hasCode("DATA_NOT_YET_AVAILABLE"));
        break;
      }
      await buffer.trim(throughId);
      if (throughId > model.trimmedId) model.trimmedId = throughId;
      break;
    }
    case "reopen":
      break;
  }
  assert.equal(buffer.lastId, model.lastId);
  const oldest = model.from(model.trimmedId + 1n).at(0)?.id ?? model.lastId + 1n;
  assert.deepEqual(
    await buffer.bounds(),
    model.lastId === 0n ? null : { minId: oldest, maxId: model.lastId },
  );
}

test("a buffer does what a list would, across trims and restarts", async (context) => {
  const directory = temporaryDirectory(context);
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 30, maxLength: 90 }),
      fc.constantFrom(0, 3000, 1_000_000),
      async (steps, hotBytes) => {
        const options = { directory: path.join(directory, String(runs++)), hotBytes };
        const model = new Model();
        let buffer = await openBuffer(options);
        try {
          for (const action of steps) {
            if (action.kind === "reopen") {
              await buffer.close();
              buffer = await openBuffer(options);
            }
            await perform(action, buffer, model);
          }
        } finally {
          await buffer.close();
        }
      },
    ),
    { numRuns: 6, ...seedFromEnvironment },
  );
});
