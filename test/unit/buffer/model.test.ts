/** The buffer against what it is meant to be: a list. Restarts and trims come in between. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import {
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
  type MsgBuffer,
} from "../../../src/buffer/buffer.ts";
import { packMessages, type Message } from "../../../src/message.ts";
import { makeMessage, openIn, temporaryDirectory } from "./fixture.ts";

type Step =
  | { readonly kind: "append"; readonly batches: readonly (readonly number[])[] }
  /** Some that are there, and then some that are new. */
  | { readonly kind: "again"; readonly at: number; readonly skips: readonly number[] }
  /** The same with one byte of one of them changed. */
  | { readonly kind: "lie"; readonly at: number }
  | { readonly kind: "broken"; readonly offset: number }
  | { readonly kind: "sync"; readonly at: number; readonly limit: number }
  | { readonly kind: "trim"; readonly at: number }
  | { readonly kind: "command"; readonly trims: boolean; readonly at: number }
  | { readonly kind: "digest"; readonly at: number; readonly to: number }
  | { readonly kind: "reopen" };

const skips = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 40 });
const position = fc.double({ min: 0, max: 1.05, noNaN: true });
const weigh = (weight: number, kind: Step["kind"], rest: object = {}) => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), ...rest }) as fc.Arbitrary<Step>,
});

const step: fc.Arbitrary<Step> = fc.oneof(
  weigh(12, "append", { batches: fc.array(skips, { minLength: 1, maxLength: 5 }) }),
  weigh(4, "again", { at: position, skips }),
  weigh(2, "lie", { at: position }),
  weigh(3, "broken", {
    offset: fc.integer({ min: -2, max: 2 }).filter((offset) => offset !== 0),
  }),
  weigh(24, "sync", { at: position, limit: fc.integer({ min: 1, max: 60 }) }),
  weigh(5, "trim", { at: position }),
  weigh(3, "command", { trims: fc.boolean(), at: position }),
  weigh(3, "digest", { at: position, to: position }),
  weigh(2, "reopen"),
);

/** A failure prints its seed; `SEED=…` runs it again. */
const seed = process.env["SEED"];
const seedFromEnvironment = seed === undefined ? {} : { seed: Number(seed) };

class Model {
  readonly messages: Message[] = [];
  trimmedId = 0n;
  logPosition = 0n;

  get lastId(): bigint {
    return this.messages.at(-1)?.id ?? 0n;
  }

  get kept(): Message[] {
    return this.from(this.trimmedId + 1n);
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

  trim(beforeId: bigint): number {
    const before = this.kept.length;
    if (beforeId - 1n > this.trimmedId) this.trimmedId = beforeId - 1n;
    return before - this.kept.length;
  }
}

/** Whether an answer for `fromId` is an error, as it has to be. */
async function isRefused(
  answer: Promise<unknown>,
  fromId: bigint,
  { lastId, trimmedId, kept }: Model,
): Promise<boolean> {
  if (fromId > lastId || lastId === 0n) {
    await assert.rejects(answer, (error) => {
      assert.ok(error instanceof DataNotYetAvailable && error.isTemporary);
      assert.deepEqual([error.requestedId, error.currentMaxId], [fromId, lastId]);
      return true;
    });
    return true;
  }
  if (trimmedId === 0n || fromId > trimmedId) return false;
  await assert.rejects(answer, (error) => {
    assert.ok(error instanceof DataTrimmed && error.isDataLoss);
    assert.equal(error.requestedId, fromId);
    assert.equal(error.minAvailableId, kept[0]?.id ?? trimmedId + 1n);
    return true;
  });
  return true;
}

async function perform(action: Step, buffer: MsgBuffer, model: Model): Promise<void> {
  switch (action.kind) {
    case "append":
      await Promise.all(action.batches.map((batch) => buffer.append(model.extend(batch))));
      break;
    case "again": {
      const known = model.from(model.idAt(action.at));
      const fresh = model.extend(action.skips);
      const { appended, duplicates } = await buffer.append([...known, ...fresh]);
      assert.deepEqual([appended, duplicates], [fresh.length, known.length]);
      break;
    }
    case "lie": {
      const known = model.from(model.idAt(action.at)).filter(({ id }) => id > model.trimmedId);
      const [first, ...rest] = known;
      if (first === undefined) break;
      const other = { ...first, bytes: Uint8Array.from(first.bytes, (byte) => byte ^ 1) };
      await assert.rejects(buffer.append([other, ...rest]), (error) => {
        assert.ok(error instanceof DataCorrupted && error.isCorruption);
        assert.equal(error.foundId, first.id);
        return true;
      });
      break;
    }
    case "broken": {
      const prevId = model.lastId + BigInt(action.offset);
      const broken = makeMessage(model.lastId + 5n, prevId < 0n ? 1n : prevId);
      await assert.rejects(buffer.append([broken]), DataCorrupted);
      break;
    }
    case "sync": {
      const startId = model.idAt(action.at);
      const answer = buffer.sync(startId, action.limit);
      if (await isRefused(answer, startId, model)) break;
      assert.deepEqual(await answer, model.from(startId).slice(0, action.limit));
      assert.equal(
        await buffer.contains(startId),
        model.kept.some(({ id }) => id === startId),
      );
      break;
    }
    case "trim": {
      const beforeId = model.idAt(action.at) + 1n;
      if (beforeId > model.lastId + 1n) {
        await assert.rejects(buffer.trim(beforeId), InvalidOperation);
        break;
      }
      const expected = model.trim(beforeId);
      assert.equal(await buffer.trim(beforeId), expected);
      break;
    }
    case "command": {
      model.logPosition += 1n;
      const { logPosition } = model;
      if (action.trims) {
        const beforeId = model.idAt(Math.min(1, action.at)) + 1n;
        const expected = model.trim(beforeId);
        assert.equal(await buffer.trim(beforeId, { logPosition }), expected);
      } else {
        await buffer.append(model.extend(action.at > 0.5 ? [1, 2] : []), { logPosition });
      }
      break;
    }
    case "digest": {
      const ends = [model.idAt(action.at), model.idAt(action.to)].sort((a, b) => Number(a - b));
      const [fromId = 0n, throughId = 0n] = ends;
      const answer = buffer.archive.digest(fromId, throughId);
      if (await isRefused(answer, fromId, model)) break;
      if (throughId > model.lastId) {
        await assert.rejects(answer, DataNotYetAvailable);
        break;
      }
      const range = model.from(fromId).filter(({ id }) => id <= throughId);
      const sha256 = createHash("sha256").update(packMessages(range)).digest();
      const { count, ...digest } = await answer;
      assert.deepEqual([count, Buffer.from(digest.sha256)], [range.length, sha256]);
      break;
    }
    case "reopen":
      break;
  }
  await compare(buffer, model);
}

async function compare(buffer: MsgBuffer, model: Model): Promise<void> {
  const { lastId, logPosition, kept } = model;
  assert.equal(buffer.lastId, lastId);
  assert.equal(buffer.logPosition, logPosition);
  const minId = kept[0]?.id;
  const maxId = kept.at(-1)?.id;
  assert.deepEqual([await buffer.minId(), await buffer.maxId()], [minId, maxId]);
  const bounds = lastId === 0n ? null : { minId: minId ?? lastId + 1n, maxId: lastId };
  assert.deepEqual(await buffer.archive.bounds(), bounds);
  const { total, hot, cold, bytes } = await buffer.stats();
  assert.deepEqual([total, hot + cold, bytes], [kept.length, total, packMessages(kept).length]);
}

test("a buffer does what a list would, across duplicates, trims and restarts", async (context) => {
  const directory = temporaryDirectory(context);
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 30, maxLength: 90 }),
      fc.constantFrom(0, 25, 10_000),
      async (steps, capacity) => {
        const folder = path.join(directory, String(runs++));
        const model = new Model();
        let buffer = await openIn(folder, { capacity });
        try {
          for (const action of steps) {
            if (action.kind === "reopen") {
              await buffer.close();
              buffer = await openIn(folder, { capacity });
            }
            await perform(action, buffer, model);
          }
        } finally {
          await buffer.close();
        }
      },
    ),
    { numRuns: 8, ...seedFromEnvironment },
  );
});
