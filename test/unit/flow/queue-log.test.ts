/** The log on a queue: what it gives, and what a replica is told that it cannot serve. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { openQueueLog, readQueueLog } from "../../../src/flow/queue-log.ts";
import type { LogEntry, LogReader } from "../../../src/flow/replicated-log.ts";
import { cleanupSegments, openPublisher } from "../../../src/queue/queue.ts";
import { inspectQueue } from "../../../src/queue/inspect.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";
import { makeMessage, makeMessages, withCode } from "./journal-scratch.ts";

/** The first entries behind a position. */
async function take(log: LogReader, after: bigint, count: number): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for await (const batch of log.read(after, new AbortController().signal)) {
    entries.push(...batch);
    if (entries.length >= count) break;
  }
  return entries;
}

test("commands come in the order of the calls, past and live, from any position", async (t) => {
  const directory = makeFastDirectory(t);
  await using log = await openQueueLog(directory, { replica: "one" });
  const messages = makeMessages(0n, 200);
  const proposals = messages.map((it) => log.propose({ kind: "append", messages: [it] }));
  assert.deepEqual(
    await Promise.all(proposals),
    messages.map(({ id }) => id),
  );
  const other = readQueueLog(directory, { replica: "two" });
  const live = take(other, 150n, 51);
  assert.equal(await log.propose({ kind: "trim", beforeId: 9n }), 201n);
  const entries = await live;
  assert.deepEqual(
    entries.map(({ position }) => position),
    Array.from({ length: 51 }, (_, index) => BigInt(151 + index)),
  );
  assert.deepEqual(entries.at(-1)?.command, { kind: "trim", beforeId: 9n });
  const first = await take(log, 0n, 1);
  assert.deepEqual(first[0]?.command, { kind: "append", messages: messages.slice(0, 1) });
});

test("a replica waits for a log that is not there yet, and an abort ends the wait", async (t) => {
  const directory = path.join(makeFastDirectory(t), "later");
  const reader = readQueueLog(directory, { replica: "one" });
  const coming = take(reader, 0n, 1);
  await using log = await openQueueLog(directory, { replica: "writer" });
  await log.propose({ kind: "trim", beforeId: 1n });
  assert.equal((await coming)[0]?.position, 1n);

  const abort = new AbortController();
  const never = readQueueLog(path.join(directory, "never"), { replica: "one" });
  const ended = never.read(0n, abort.signal)[Symbol.asyncIterator]().next();
  abort.abort();
  assert.equal((await ended).done, true);
});

test("a log that ends before a replica is another one, and says so", async (t) => {
  const directory = makeFastDirectory(t);
  await using log = await openQueueLog(directory, { replica: "one" });
  await log.propose({ kind: "trim", beforeId: 1n });
  await assert.rejects(take(log, 2n, 1), withCode("CHAIN_BROKEN"));
});

test("a log keeps what a replica has not asked beyond, and tells one that comes too late", async (t) => {
  const directory = makeFastDirectory(t);
  await using log = await openQueueLog(directory, { replica: "one", segmentBytes: 4096 });
  const propose = async (): Promise<void> => {
    for (let count = 0; count < 40; count++) {
      const messages = [makeMessage(BigInt(count + 1), BigInt(count), 300)];
      await log.propose({ kind: "append", messages });
    }
  };
  await propose();
  // It takes a batch and is killed before it asks for the next: nothing is dealt with.
  await take(log, 0n, 1);
  cleanupSegments(directory, { segments: 1 });
  assert.equal((await take(log, 0n, 1))[0]?.position, 1n);

  const abort = new AbortController();
  for await (const batch of log.read(0n, abort.signal)) {
    if (batch.at(-1)?.position === 40n) setTimeout(() => abort.abort(), 20);
  }
  assert.equal(inspectQueue(directory).readers[0]?.committed, 40);
  await propose();
  cleanupSegments(directory, { segments: 1 });
  const late = readQueueLog(directory, { replica: "late" });
  await assert.rejects(take(late, 0n, 1), withCode("DATA_TRIMMED"));
  assert.equal((await take(log, 40n, 1))[0]?.position, 41n);
});

test("records that are no commands are entries that say so", async (t) => {
  const directory = makeFastDirectory(t);
  {
    await using publisher = openPublisher(directory);
    publisher.append(1, new TextEncoder().encode("not a command"));
  }
  const reader = readQueueLog(directory, { replica: "one" });
  const [entry] = await take(reader, 0n, 1);
  assert.equal(entry?.command.kind, "unreadable");
});

test("a command that no segment has room for is refused at once", async (t) => {
  const directory = makeFastDirectory(t);
  await using log = await openQueueLog(directory, { replica: "one", segmentBytes: 4096 });
  const messages = [makeMessage(1n, 0n, 5000)];
  const append = log.propose({ kind: "append", messages });
  await assert.rejects(append, withCode("PAYLOAD_TOO_LARGE"));
  assert.equal(await log.propose({ kind: "trim", beforeId: 0n }), 1n);
  assert.ok(fs.existsSync(path.join(directory, "queue.control")));
});
