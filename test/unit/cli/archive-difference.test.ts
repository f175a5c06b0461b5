/** Where two buffers differ first, held against a plain look at all of their messages. */
import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { compareArchives } from "../../../src/cli/archive-difference.ts";
import type { MsgBuffer } from "../../../src/buffer/buffer.ts";
import type { Message } from "../../../src/message.ts";
import { makeMessage, makeMessages, openIn, temporaryDirectory } from "../buffer/fixture.ts";

const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Numbers below a bound: mulberry32. */
function randomFrom(start: number): (below: number) => number {
  let state = start;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) % 2 ** 31) % below;
  };
}

/** The same stream with ids that follow on one another as they are now. */
function relink(messages: readonly Message[]): Message[] {
  let prevId = 0n;
  return messages.map((message) => {
    const linked = { ...message, prevId };
    prevId = message.id;
    return linked;
  });
}

const changes: readonly ((messages: readonly Message[], at: number) => Message[])[] = [
  (messages) => [...messages],
  (messages, at) =>
    messages.map((one, index) => (index === at ? { ...one, bytes: Buffer.from("x") } : one)),
  (messages, at) =>
    messages.map((one, index) => (index === at ? { ...one, timestampNs: 1n } : one)),
  (messages, at) => relink(messages.filter((_one, index) => index !== at)),
  (messages, at) =>
    relink(
      messages.flatMap((one, index) =>
        index === at ? [makeMessage(one.id - 1n, 0n), one] : [one],
      ),
    ),
];

async function write(context: TestContext, messages: readonly Message[]): Promise<MsgBuffer> {
  const buffer = await openIn(path.join(temporaryDirectory(context), "buffer"));
  await buffer.append(messages);
  return buffer;
}

function within(messages: readonly Message[], fromId: bigint, throughId: bigint): Message[] {
  return messages.filter(({ id }) => id >= fromId && id <= throughId);
}

function textOf(message: Message | undefined): string {
  if (message === undefined) return "none";
  const { id, prevId, timestampNs, bytes } = message;
  return `${id} ${prevId} ${timestampNs} ${Buffer.from(bytes).toString("hex")}`;
}

function firstDifference(one: readonly Message[], other: readonly Message[]): bigint | undefined {
  const ids = [...one, ...other].map(({ id }) => id).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const find = (messages: readonly Message[], id: bigint) =>
    messages.find((each) => each.id === id);
  return ids.find((id) => textOf(find(one, id)) !== textOf(find(other, id)));
}

test("the first id that differs is found, whatever differs and whatever is trimmed", async (context) => {
  context.diagnostic(`SEED=${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 15; round++) {
    const count = 2 + random(300);
    const skip = BigInt(2 + random(1000));
    const lists = [makeMessages(0n, count, 20, skip)];
    const change = changes[round % changes.length] ?? changes[0];
    lists.push(change?.(lists[0] ?? [], random(count)) ?? []);
    const buffers = await Promise.all(lists.map((list) => write(context, list)));
    for (const buffer of buffers) {
      if (random(2) === 0) await buffer.trim(BigInt(random(Number(buffer.lastId))));
    }
    const minIds = await Promise.all(buffers.map((buffer) => buffer.minId()));
    const fromId = minIds.reduce((most = 0n, id = 0n) => (id > most ? id : most), 0n) ?? 0n;
    const throughId = buffers.reduce(
      (least, { lastId }) => (lastId < least ? lastId : least),
      2n ** 63n,
    );
    const [one = [], other = []] = lists.map((list) => within(list, fromId, throughId));
    const expected = firstDifference(one, other);
    const archives = buffers.map(({ archive }, index) => ({ name: String(index), archive }));
    const what = `SEED=${seed} round=${round}`;
    const comparison = await compareArchives(archives);
    if (one.length + other.length === 0) {
      assert.deepEqual([comparison.overlap, comparison.isSame], [undefined, false], what);
      continue;
    }
    assert.equal(comparison.difference?.id, expected, what);
    assert.equal(comparison.isSame, expected === undefined, what);
    if (expected === undefined) assert.equal(comparison.overlap?.count, one.length, what);
    else {
      const found = comparison.difference?.found.map(({ message }) => textOf(message));
      const wanted = [one, other].map((list) => textOf(list.find(({ id }) => id === expected)));
      assert.deepEqual(found, wanted, what);
    }
    await Promise.all(buffers.map((buffer) => buffer.close()));
  }
});

test("replicas that are as far in their log keep the same ids, or have diverged", async (context) => {
  const messages = makeMessages(0n, 100);
  const replicas = await Promise.all(
    [1n, 1n, 1n].map(async (logPosition) => {
      const buffer = await openIn(path.join(temporaryDirectory(context), "buffer"));
      await buffer.append(messages, { logPosition });
      return buffer;
    }),
  );
  const [first, second, third] = replicas;
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  const archives = replicas.map(({ archive }, index) => ({ name: String(index), archive }));
  assert.equal((await compareArchives(archives)).isSame, true);
  // A replica that is behind is no other one.
  await third.trim(50n, { logPosition: 2n });
  assert.partialDeepStrictEqual(await compareArchives(archives), { isSame: true, divergent: [] });
  await second.trim(51n, { logPosition: 2n });
  const { isSame, divergent, difference } = await compareArchives(archives);
  assert.deepEqual([isSame, divergent, difference], [false, ["1", "2"], undefined]);
  await Promise.all(replicas.map((buffer) => buffer.close()));
});

test("where nobody has anything they are the same, and where one has nothing they are not", async (context) => {
  const empty = await write(context, []);
  const other = await write(context, []);
  const archives = [empty, other].map(({ archive }) => ({ name: archive.component, archive }));
  assert.equal((await compareArchives(archives)).isSame, true);
  await other.append(makeMessages(0n, 1));
  assert.equal((await compareArchives(archives)).isSame, false);
  await Promise.all([empty, other].map((buffer) => buffer.close()));
});
