/** Calls that overlap: whatever else goes on, each answer is right by itself. */
import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { DataNotYetAvailable, DataTrimmed, type MsgBuffer } from "../../../src/buffer/buffer.ts";
import { rangeFault } from "../../../src/buffer/range.ts";
import type { Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { makeMessage, openIn, temporaryDirectory } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

/** What was ever asked to be stored and given up. */
class Asked {
  readonly messages: Message[] = [];
  trimmedId = 0n;
  private readonly random = seededRandom(seed);

  below(bound: number): number {
    return this.random.below(bound);
  }

  get lastId(): bigint {
    return this.messages.at(-1)?.id ?? 0n;
  }

  /** Messages that nobody has seen; ids skip, and some do not fit into a block. */
  more(): Message[] {
    const added: Message[] = [];
    for (let left = 1 + this.below(this.below(10) === 0 ? 3000 : 30); left > 0; left--) {
      const id = this.lastId + 1n + BigInt(this.below(3) === 0 ? this.below(9) : 0);
      const bytes = this.below(this.below(50) === 0 ? 70_000 : 200);
      const message = makeMessage(id, this.lastId, bytes);
      this.messages.push(message);
      added.push(message);
    }
    return added;
  }

  keptAfter(id: bigint): Message[] {
    return this.messages.filter((message) => message.id > id);
  }

  check(answer: readonly Message[], fromId: bigint, limit = Infinity): void {
    assert.equal(rangeFault(answer, fromId, limit), undefined, `SEED=${seed}`);
    const begin = this.messages.findIndex(({ id }) => id >= fromId);
    const expected = this.messages.slice(begin, begin + answer.length);
    for (const [index, message] of answer.entries()) {
      assert.equal(message.id, expected[index]?.id, `SEED=${seed}`);
      assert.equal(Buffer.compare(message.bytes, expected[index]?.bytes ?? message.bytes), 0);
    }
  }
}

async function follow(buffer: MsgBuffer, asked: Asked, fromId: bigint): Promise<void> {
  let nextId = fromId;
  try {
    for await (const batch of buffer.follow(fromId)) {
      asked.check(batch, nextId);
      nextId = (batch.at(-1)?.id ?? nextId) + 1n;
      if (asked.below(4) === 0) await pause(asked.below(10));
    }
  } catch (error) {
    if (!(error instanceof DataTrimmed)) throw error;
    assert.ok(nextId <= asked.trimmedId, `SEED=${seed}: id=${nextId} is not trimmed`);
  }
}

async function read(buffer: MsgBuffer, asked: Asked): Promise<void> {
  const fromId = asked.trimmedId + 1n + BigInt(asked.below(Number(asked.lastId - asked.trimmedId)));
  const limit = 1 + asked.below(2000);
  try {
    asked.check(await buffer.sync(fromId, limit), fromId, limit);
  } catch (error) {
    if (error instanceof DataTrimmed) assert.ok(fromId <= asked.trimmedId, `SEED=${seed}`);
    else if (error instanceof DataNotYetAvailable) assert.ok(error.currentMaxId < fromId);
    else throw error;
  }
}

async function trim(buffer: MsgBuffer, asked: Asked): Promise<void> {
  const before = asked.keptAfter(asked.trimmedId);
  const throughId = asked.trimmedId + BigInt(asked.below(Number(buffer.lastId - asked.trimmedId)));
  asked.trimmedId = throughId;
  const deleted = await buffer.trim(throughId + 1n);
  assert.equal(deleted, before.filter(({ id }) => id <= throughId).length, `SEED=${seed}`);
}

async function appendAgain(buffer: MsgBuffer, asked: Asked): Promise<void> {
  const begin = asked.below(asked.messages.length);
  const again = asked.messages.slice(begin, begin + 1 + asked.below(3000));
  assert.deepEqual(await buffer.append(again), { appended: 0, duplicates: again.length });
}

test("appends, reads, trims and followers that overlap each get what is right", async (context) => {
  context.diagnostic(`SEED=${seed}`);
  const asked = new Asked();
  const directory = temporaryDirectory(context);
  for (const capacity of [0, 100, 10_000]) {
    const buffer = await openIn(directory, { capacity }, { sync: asked.below(2) === 0 });
    const calls = [follow(buffer, asked, asked.trimmedId + 1n)];
    const appends: Promise<void>[] = [];
    for (let step = 0; step < 300; step++) {
      const kind = asked.below(20);
      const isEmpty = buffer.lastId <= asked.trimmedId;
      if (kind < 8) {
        const messages = asked.more();
        const result = { appended: messages.length, duplicates: 0 };
        appends.push(buffer.append(messages).then((is) => assert.deepEqual(is, result)));
      } else if (kind < 10) await pause(asked.below(5));
      else if (isEmpty) continue;
      else if (kind === 10) calls.push(trim(buffer, asked));
      else if (kind === 11) calls.push(follow(buffer, asked, asked.lastId));
      else if (kind === 12) calls.push(appendAgain(buffer, asked));
      else calls.push(read(buffer, asked));
    }
    await Promise.all(appends);
    const { total, minId, maxId } = await buffer.stats();
    const kept = asked.keptAfter(asked.trimmedId);
    assert.deepEqual([total, minId, maxId], [kept.length, kept[0]?.id, kept.at(-1)?.id]);
    await buffer.close();
    await Promise.all(calls);
  }
});
