/** A leader that starts: what it missed comes from its peers, the rest live. */
import assert from "node:assert/strict";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { openPublisher, openSubscriber } from "gapless/queue";
import {
  recoverLeader,
  type LostRange,
  type MsgBuffer,
  type Recovered,
} from "../../../src/buffer/buffer.ts";
import type { Repair } from "../../../src/flow/endpoints.ts";
import { queueSource } from "../../../src/flow/queue-source.ts";
import { packMessages, type Batch, type Message } from "../../../src/message.ts";
import { batchOf, MemorySource } from "../flow/doubles.ts";
import {
  hasCode,
  makeMessages,
  nextLine,
  openIn,
  readAll,
  runProgram,
  temporaryDirectory,
} from "./fixture.ts";
import { connect, ListArchive, serve } from "./peer-fixture.ts";

function openOwn(context: TestContext): Promise<MsgBuffer> {
  return openIn(path.join(temporaryDirectory(context), "buffer"));
}

function liveBatches(messages: readonly Message[], size: number): Batch[] {
  const count = Math.ceil(messages.length / size);
  return Array.from({ length: count }, (_, index) =>
    batchOf(messages.slice(index * size, (index + 1) * size)),
  );
}

const never = new AbortController().signal;

test("a leader that was down fills its gap from a peer's process, and goes on live", async (context) => {
  const directory = temporaryDirectory(context);
  const socketPath = path.join(directory, "peer.sock");
  const program = runProgram(context, "peer.ts", path.join(directory, "peer"), socketPath);
  assert.equal(await nextLine(program), "ready");
  const peer = connect(context, `unix:${socketPath}`);

  await using buffer = await openOwn(context);
  const all = makeMessages(0n, 6000);
  await buffer.append(all.slice(0, 1000));
  // Of what comes live, 4001 through 5000 are missing before the first, 5501 to 5510 are not.
  const live = new MemorySource(liveBatches(all.slice(4900), 100));
  const recovered: [Recovered, bigint][] = [];
  const repairs: Repair[] = [];
  const end = await recoverLeader({
    buffer,
    live,
    peers: [peer],
    signal: never,
    onRecovered: (one) => recovered.push([one, buffer.lastId]),
    onProgress: (_, repair) => repairs.push(repair),
  });
  assert.equal(end, 6000n);
  assert.deepEqual(await readAll(buffer.archive), all);
  assert.deepEqual(recovered, [[{ position: 5000n, filled: 3900 }, 5000n]]);
  assert.equal(
    repairs.reduce((sum, { gaps }) => sum + gaps, 0),
    1,
  );
  assert.ok(live.isSettled);
});

test("a leader whose live source is a queue fills its gap, and goes on behind a restart", async (context) => {
  const directory = temporaryDirectory(context);
  const all = makeMessages(0n, 6000);
  const peer = new ListArchive(all.slice(0, 5000)).archive;
  const live = path.join(directory, "queue");
  await using publisher = openPublisher(live, { segmentBytes: 2 ** 20, preallocate: false });
  const publish = (messages: readonly Message[]): void => {
    for (const message of messages) publisher.append(1, packMessages([message]), 0n);
  };
  const lead = async (throughId: bigint): Promise<Recovered | undefined> => {
    await using buffer = await openIn(path.join(directory, "buffer"));
    await using subscriber = openSubscriber(live, "leader", { start: "earliest" });
    const stop = new AbortController();
    let recovered: Recovered | undefined;
    await recoverLeader({
      buffer,
      live: queueSource(subscriber),
      peers: [peer],
      signal: stop.signal,
      onRecovered: (one) => (recovered = one),
      onProgress: (position) => {
        if (position >= throughId) stop.abort();
      },
    });
    return recovered;
  };
  publish(all.slice(4000, 5500));
  assert.equal((await lead(5500n))?.filled, 4000);
  publish(all.slice(5500));
  await lead(6000n);
  await using buffer = await openIn(path.join(directory, "buffer"));
  assert.deepEqual(await readAll(buffer.archive), all);
});

test("a leader that missed nothing asks nobody, and drops what comes again", async (context) => {
  await using buffer = await openOwn(context);
  const all = makeMessages(0n, 300);
  await buffer.append(all.slice(0, 150));
  const peer = {
    read: () => Promise.reject(new Error("asked")),
    status: () => Promise.reject(new Error("asked")),
  };
  const stopping = new AbortController();
  const live = new MemorySource(liveBatches(all, 50));
  const recovered: Recovered[] = [];
  await recoverLeader({
    buffer,
    live,
    peers: [peer],
    signal: stopping.signal,
    onRecovered: (one) => recovered.push(one),
    onProgress: (position) => {
      if (position === 300n) stopping.abort();
    },
  });
  assert.deepEqual(await readAll(buffer.archive), all);
  assert.deepEqual(recovered, [{ position: 150n, filled: 0 }]);
});

test("a gap in what comes live later is filled as well", async (context) => {
  await using buffer = await openOwn(context);
  const all = makeMessages(0n, 500, 10, 3n);
  const peer = new ListArchive(all.slice(0, 400)).archive;
  const live = new MemorySource([
    batchOf(all.slice(0, 100)),
    batchOf(all.slice(250, 300)),
    batchOf([...all.slice(320, 330), ...all.slice(399)]),
  ]);
  const end = await recoverLeader({ buffer, live, peers: [peer], signal: never });
  assert.equal(end, 1500n);
  assert.deepEqual(await readAll(buffer.archive), all);
});

test("while nothing comes live, what peers show is taken, and what they claim is not", async (context) => {
  await using buffer = await openOwn(context);
  const all = makeMessages(0n, 200);
  const honest = new ListArchive(all);
  const boaster = {
    ...honest.archive,
    status: async () => ({ minId: 1n, maxId: 9_000_000n, logPosition: 0n }),
  };
  const stopping = new AbortController();
  // At the second silence, what was there at the first one should have come.
  const live = new MemorySource([null, null]);
  await recoverLeader({
    buffer,
    live,
    peers: [boaster, honest.archive],
    signal: stopping.signal,
    onProgress: (position) => {
      if (position === 200n) stopping.abort();
    },
  });
  assert.deepEqual(await readAll(buffer.archive), all);
});

test("what no peer has any more is told, and no message behind it is taken", async (context) => {
  const list = new ListArchive(makeMessages(0n, 1000));
  list.trimmedThrough = 600n;
  const server = await serve(context, [list.archive]);
  const peer = connect(context, server.address);
  await using buffer = await openOwn(context);
  await buffer.append(makeMessages(0n, 500));
  const live = new MemorySource([batchOf(makeMessages(900n, 10))]);
  const lost: LostRange[] = [];
  const recovering = recoverLeader({
    buffer,
    live,
    peers: [peer],
    signal: never,
    onLoss: (range) => void lost.push(range),
  });
  await assert.rejects(recovering, hasCode("DATA_TRIMMED"));
  assert.deepEqual(
    lost.map(({ afterId, throughId }) => [afterId, throughId]),
    [[500n, 600n]],
  );
  const { losses } = buffer.losses();
  assert.partialDeepStrictEqual(losses, [{ cause: "missing", fromId: 501n, throughId: 600n }]);
  assert.equal(buffer.lastId, 500n);
  assert.deepEqual(live.acknowledged, []);
});

test("peers that are not there are waited for, named in the end, and left at a signal", async (context) => {
  await using buffer = await openOwn(context);
  const missing = `unix:${path.join(temporaryDirectory(context), "missing.sock")}`;
  const peers = [connect(context, missing)];
  const live = (): MemorySource => new MemorySource([batchOf(makeMessages(900n, 10))]);
  const options = { buffer, peers };
  const recovering = recoverLeader({ ...options, live: live(), signal: never, timeoutMs: 200 });
  await assert.rejects(recovering, (error) => {
    assert.match(String(error), /messages behind id=0 through id=900/);
    assert.ok(String(error).includes(missing));
    return hasCode("PEER_UNAVAILABLE")(error);
  });
  const stopping = new AbortController();
  const left = recoverLeader({ ...options, live: live(), signal: stopping.signal });
  setTimeout(() => stopping.abort(), 100);
  assert.equal(await left, 0n);
  assert.equal(buffer.lastId, 0n);
});
