/** What a replica makes of a log: in its order, each command once, the same on all of them. */
import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import {
  replicate,
  runsOf,
  type RefusedCommand,
  type ReplicaTarget,
} from "../../../src/buffer/replicate.ts";
import { GaplessError } from "../../../src/errors.ts";
import {
  encodeCommand,
  readCommand,
  type LogCommand,
  type LogEntry,
  type LogReader,
} from "../../../src/flow/replicated-log.ts";
import { FileReplica } from "../../support/file-replica.ts";
import { hasCode, makeMessage, makeMessages, openIn, temporaryDirectory } from "./fixture.ts";

const signal = new AbortController().signal;

const appendOf = (...messages: ReturnType<typeof makeMessages>): LogCommand => ({
  kind: "append",
  messages,
});
const one = (id: bigint): LogCommand => appendOf(makeMessage(id, id - 1n));

/** A log that ends, and gives what is asked for in batches of a size. */
function logOf(entries: readonly LogEntry[], batch = 100, isDense = true): LogReader {
  return {
    isDense,
    async *read(afterPosition) {
      const rest = entries.filter(({ position }) => position > afterPosition);
      while (rest.length > 0) yield rest.splice(0, batch);
    },
  };
}

function numbered(...commands: readonly LogEntry["command"][]): LogEntry[] {
  return commands.map((command, index) => ({ position: BigInt(index + 1), command }));
}

function openReplica(context: TestContext): FileReplica {
  const replica = new FileReplica(path.join(temporaryDirectory(context), "replica"));
  context.after(() => replica[Symbol.dispose]());
  return replica;
}

const idsOf = ({ messages }: FileReplica): bigint[] => messages.map(({ id }) => id);

test("many small appends are one write, with the position of the last", async (context) => {
  const replica = openReplica(context);
  const commands = Array.from({ length: 90 }, (_, index) => one(BigInt(index + 1)));
  commands.splice(50, 0, { kind: "trim", beforeId: 40n });
  const progress: bigint[] = [];
  const position = await replicate(replica, logOf(numbered(...commands)), {
    signal,
    onProgress: (reached) => progress.push(reached),
  });
  assert.equal(position, 91n);
  assert.deepEqual(progress, [50n, 51n, 91n]);
  assert.deepEqual(
    replica.applied.map((it) => it.position),
    [50n, 51n, 91n],
  );
  assert.equal(replica.messages.length, 51);
});

test("appends are written together up to a size only", () => {
  const large = (id: bigint): LogCommand => appendOf(makeMessage(id, id - 1n, 400 * 1024));
  const runs = runsOf(numbered(large(1n), large(2n), large(3n), large(4n), one(5n)));
  assert.deepEqual(
    runs.map((run) => run.length),
    [2, 3],
  );
  const huge = appendOf(makeMessage(1n, 0n, 3 * 1024 * 1024));
  const alone = runsOf(numbered(huge, one(2n), one(3n)));
  assert.deepEqual(
    alone.map((run) => run.length),
    [1, 2],
  );
});

test("a command that is refused changes nothing, is told, and those around it are applied", async (context) => {
  const entries = numbered(
    one(1n),
    one(2n),
    appendOf(makeMessage(9n, 8n)),
    one(3n),
    { kind: "trim", beforeId: 5n },
    readCommand(new Uint8Array([1, 2, 3])),
    one(4n),
    { kind: "trim", beforeId: 2n },
  );
  // However the log batches them, and so however they are grouped.
  for (const batch of [1, 2, 3, 100]) {
    const replica = openReplica(context);
    const refused: RefusedCommand[] = [];
    const positions: bigint[] = [];
    await replicate(replica, logOf(entries, batch), {
      signal,
      onRefused: async (it) => {
        refused.push(it);
        positions.push(replica.logPosition);
      },
    });
    assert.deepEqual(idsOf(replica), [2n, 3n, 4n]);
    assert.equal(replica.logPosition, 8n);
    assert.deepEqual(
      refused.map((it) => [it.position, it.command?.kind, it.reason.code]),
      [
        [3n, "append", "CHAIN_BROKEN"],
        [5n, "trim", "INVALID_OPERATION"],
        [6n, undefined, "MESSAGE_MALFORMED"],
      ],
    );
    // Told before the position has passed it.
    assert.ok(positions.every((at, index) => at < (refused[index]?.position ?? 0n)));
  }
});

test("what is refused and nobody is told of is a warning of the process", async (context) => {
  const replica = openReplica(context);
  const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
  await replicate(replica, logOf(numbered({ kind: "trim", beforeId: 4n })), { signal });
  assert.match((await warned).message, /refuse the trim at position=1/);
  assert.equal(replica.logPosition, 1n);
});

test("what a replica has applied is not applied again, where it goes on", async (context) => {
  const replica = openReplica(context);
  const entries = numbered(one(1n), one(2n), one(3n), one(4n));
  await replicate(replica, logOf(entries.slice(0, 2)), { signal });
  // A log that begins before what it was asked for.
  const whole: LogReader = { isDense: true, read: () => logOf(entries, 1).read(0n, signal) };
  await replicate(replica, whole, { signal });
  assert.deepEqual(idsOf(replica), [1n, 2n, 3n, 4n]);
  assert.ok(replica.applied.every(({ duplicates }) => duplicates === 0));
});

test("a log that leaves out a position, or goes back, ends the replica where it is", async (context) => {
  const entries = numbered(one(1n), one(2n), one(3n), one(4n));
  const [first, second, third, fourth] = entries;
  assert.ok(first && second && third && fourth);
  const replica = openReplica(context);
  const lossy = logOf([first, third, fourth], 1);
  await assert.rejects(replicate(replica, lossy, { signal }), (error) => {
    hasCode("MESSAGES_LOST")(error);
    return String(error).includes("positions 2 to 2");
  });
  assert.equal(replica.logPosition, 1n);
  const back = logOf([second, third, second, fourth], 1);
  await assert.rejects(replicate(replica, back, { signal }), hasCode("CHAIN_BROKEN"));
  assert.equal(replica.logPosition, 3n);
  // Where positions may be left out, only the order counts.
  const sparse = logOf([{ ...fourth, position: 10n }], 1, false);
  assert.equal(await replicate(replica, sparse, { signal }), 10n);
  assert.deepEqual(idsOf(replica), [1n, 2n, 3n, 4n]);
});

test("a failure of this machine is no refusal: the command comes again", async (context) => {
  const replica = openReplica(context);
  const full: ReplicaTarget = {
    get logPosition() {
      return replica.logPosition;
    },
    append: async (messages, options) => {
      if (options.logPosition < 2n) return replica.append(messages, options);
      throw new GaplessError("STORAGE_FULL", "No room.");
    },
    trim: async (beforeId, options) => replica.trim(beforeId, options),
  };
  const log = logOf(numbered(one(1n), one(2n), one(3n)), 1);
  const onRefused = (): never => assert.fail("a full disk was taken for a refusal");
  await assert.rejects(replicate(full, log, { signal, onRefused }), hasCode("STORAGE_FULL"));
  assert.equal(replica.logPosition, 1n);
  await replicate(replica, log, { signal, onRefused });
  assert.deepEqual(idsOf(replica), [1n, 2n, 3n]);
});

test("G5: a ring that an append can never fit is that of this machine, and no refusal", async (context) => {
  const ring = { capacity: 5, overwriteOnFull: false };
  const entries = numbered(one(1n), appendOf(...makeMessages(1n, 6)), one(8n));
  for (const batch of [1, 100]) {
    await using buffer = await openIn(temporaryDirectory(context), ring);
    const refused: RefusedCommand[] = [];
    const onRefused = (it: RefusedCommand): void => void refused.push(it);
    const replicating = replicate(buffer, logOf(entries, batch), { signal, onRefused });
    await assert.rejects(replicating, hasCode("INVALID_OPERATION"));
    assert.deepEqual(refused, []);
    assert.equal(buffer.logPosition, 1n);
  }
});

test("an abort ends a replica between two writes", async (context) => {
  const replica = openReplica(context);
  const abort = new AbortController();
  const log = logOf(numbered(one(1n), { kind: "trim", beforeId: 1n }, one(2n)));
  const onProgress = (): void => abort.abort();
  assert.equal(await replicate(replica, log, { signal: abort.signal, onProgress }), 1n);
  assert.equal(replica.logPosition, 1n);
});

test("a command of another version ends the replica before it", async (context) => {
  const replica = openReplica(context);
  const newer = encodeCommand(one(2n));
  newer[3] = 2;
  const log: LogReader = {
    isDense: true,
    async *read() {
      yield numbered(one(1n));
      yield [{ position: 2n, command: readCommand(newer) }];
    },
  };
  await assert.rejects(replicate(replica, log, { signal }), hasCode("STORAGE_CORRUPT"));
  assert.equal(replica.logPosition, 1n);
});
