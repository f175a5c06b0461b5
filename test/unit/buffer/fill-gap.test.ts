/** What several peers give together, whatever some of them do. */
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import {
  fillGap,
  type FillOptions,
  type GapPeer,
  type LostRange,
} from "../../../src/buffer/buffer.ts";
import { DataCorrupted, DataTrimmed } from "../../../src/buffer/buffer-errors.ts";
import { GaplessError, isGaplessError } from "../../../src/errors.ts";
import { isBatch, lastIdOf, type Message } from "../../../src/message.ts";
import { seededRandom, type Random } from "../../../src/random.ts";
import {
  hasCode,
  makeMessages,
  nextLine,
  openIn,
  runProgram,
  temporaryDirectory,
} from "./fixture.ts";
import { archiveThat, connect, ListArchive, serve } from "./peer-fixture.ts";

/** Collects what is applied, and says how to fill it. */
function filling(peers: readonly GapPeer[], options: Partial<FillOptions> = {}) {
  const applied: Message[] = [];
  const lost: LostRange[] = [];
  const fill: FillOptions = {
    peers,
    afterId: 0n,
    throughId: 5000n,
    apply: async (batch) => {
      for (const message of batch) applied.push(message);
    },
    onLoss: (range) => void lost.push(range),
    timeoutMs: 10_000,
    ...options,
  };
  return { applied, lost, fill };
}

test("a peer that is killed in the middle of a fill is replaced by another one", async (context) => {
  const directory = temporaryDirectory(context);
  const programs = [1, 2].map((number) => {
    const socketPath = path.join(directory, `${number}.sock`);
    const buffer = path.join(directory, `buffer-${number}`);
    const program = runProgram(context, "peer.ts", buffer, socketPath);
    return { program, peer: connect(context, `unix:${socketPath}`) };
  });
  for (const { program } of programs) assert.equal(await nextLine(program), "ready");
  const [first, second] = programs;
  assert.ok(first !== undefined && second !== undefined);
  // The second one has to be taken after the kill: it is slower to say what it has.
  const later: GapPeer = {
    address: second.peer.address,
    read: (fromId, limit) => second.peer.read(fromId, limit),
    status: async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      return second.peer.status();
    },
  };
  const applied: Message[] = [];
  const filled = await fillGap({
    peers: [later, first.peer],
    afterId: 0n,
    throughId: 5000n,
    batchMax: 500,
    apply: async (batch) => {
      for (const message of batch) applied.push(message);
      if (applied.length !== 1500) return;
      first.program.child.kill("SIGKILL");
      await first.program.exited;
    },
  });
  assert.deepEqual(filled, { messages: 5000, lastId: 5000n });
  assert.deepEqual(applied, makeMessages(0n, 5000));
});

test("the next range is on its way while one is applied, and is asked for again if it fails", async (context) => {
  const messages = makeMessages(0n, 5000);
  const server = await serve(context, [new ListArchive(messages).archive]);
  const peer = connect(context, server.address);
  const asked: bigint[] = [];
  const failing: GapPeer = {
    status: () => peer.status(),
    read: async (fromId, limit) => {
      asked.push(fromId);
      const isFirstTime = asked.indexOf(fromId) === asked.length - 1;
      if (fromId === 2001n && isFirstTime) throw new GaplessError("PEER_UNAVAILABLE", "Gone.");
      return peer.read(fromId, limit);
    },
  };
  const askedWhileApplied: (readonly bigint[])[] = [];
  const applied: Message[] = [];
  const { fill } = filling([failing], {
    batchMax: 1000,
    apply: async (batch) => {
      applied.push(...batch);
      askedWhileApplied.push([...asked]);
    },
  });
  await fillGap(fill);
  assert.deepEqual(applied, messages);
  assert.deepEqual(askedWhileApplied, [
    [1n, 1001n],
    [1n, 1001n, 2001n],
    [1n, 1001n, 2001n, 2001n, 3001n],
    [1n, 1001n, 2001n, 2001n, 3001n, 4001n],
    [1n, 1001n, 2001n, 2001n, 3001n, 4001n],
  ]);
});

test("a peer that lies about the chain is left where it does, for one that does not", async (context) => {
  const messages = makeMessages(0n, 5000);
  const liars: Message[][] = [
    // A message is missing, another one is there twice, and one belongs to another stream.
    [...messages.slice(0, 3000), ...messages.slice(3001)],
    [...messages.slice(0, 3000), ...messages.slice(2999)],
    messages.map((message, index) => (index === 3000 ? { ...message, prevId: 2990n } : message)),
  ];
  for (const liar of liars) {
    const flows = [new ListArchive(liar, "liar"), new ListArchive(messages, "honest")];
    const server = await serve(
      context,
      flows.map(({ archive }) => archive),
    );
    const peer = (flow: string): GapPeer => connect(context, server.address, { flow });
    const honest = peer("honest");
    const slower: GapPeer = {
      read: (fromId, limit) => honest.read(fromId, limit),
      status: async () => {
        await new Promise((resolve) => setTimeout(resolve, 100));
        return honest.status();
      },
    };
    const { applied, fill } = filling([peer("liar"), slower], { batchMax: 700 });
    await fillGap(fill);
    assert.deepEqual(applied, messages);

    const alone = filling([peer("liar")], { batchMax: 700 });
    const startMs = performance.now();
    await assert.rejects(fillGap(alone.fill), (error) => {
      assert.match(String(error), /answered wrongly/);
      return hasCode("PEER_UNAVAILABLE")(error);
    });
    assert.ok(performance.now() - startMs < 5000, "a liar was asked again");
    assert.deepEqual(alone.applied, messages.slice(0, 2800));
  }
});

test("a peer that lies when it is asked ahead is not asked once more", async () => {
  const messages = makeMessages(0n, 5000);
  const { archive } = new ListArchive(messages);
  const asked: bigint[] = [];
  const liar: GapPeer = {
    status: () => archive.status(),
    read: async (fromId, limit) => {
      asked.push(fromId);
      if (fromId === 1001n) throw new DataCorrupted(1000n, 1002n, "It lied");
      return archive.read(fromId, limit);
    },
  };
  const honest: GapPeer = {
    read: (fromId, limit) => archive.read(fromId, limit),
    status: async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return archive.status();
    },
  };
  const { applied, fill } = filling([liar, honest], { batchMax: 1000 });
  await fillGap(fill);
  assert.deepEqual(applied, messages);
  assert.deepEqual(asked, [1n, 1001n]);
});

test("an answer that does not follow on what is there is a lie, though it is a range", async () => {
  const other = new ListArchive(makeMessages(3n, 100, 10, 7n)).archive;
  const { applied, fill } = filling([other], { afterId: 5n, throughId: 50n });
  await assert.rejects(fillGap(fill), hasCode("PEER_UNAVAILABLE"));
  assert.deepEqual(applied, []);
});

test("a peer that answers too slowly is passed over, and named where nobody else is", async (context) => {
  const list = new ListArchive(makeMessages(0n, 5000));
  const hanging = archiveThat(() => new Promise(() => undefined), "hanging");
  const reading = {
    ...list.archive,
    component: "reading",
    read: () => new Promise<never>(() => undefined),
  };
  const server = await serve(context, [list.archive, hanging, reading]);
  const peer = (flow: string): GapPeer => connect(context, server.address, { flow });
  const slow = [peer("hanging"), peer("reading")];
  const { applied, fill } = filling([...slow, peer("trades")], { answerTimeoutMs: 200 });
  await fillGap(fill);
  assert.deepEqual(applied, list.messages);

  const named = slow.map((one, index): GapPeer => ({
    address: `slow-${index + 1}`,
    read: (fromId, limit) => one.read(fromId, limit),
    status: () => one.status(),
  }));
  const alone = filling(named, { answerTimeoutMs: 100, timeoutMs: 300 });
  await assert.rejects(fillGap(alone.fill), (error) => {
    assert.match(String(error), /slow-1: It did not answer within 100 ms/);
    assert.match(String(error), /slow-2: It did not answer within 100 ms/);
    return hasCode("PEER_UNAVAILABLE")(error);
  });
  assert.deepEqual(alone.lost, []);
});

test("what all have trimmed is lost: recorded, told, and then the error", async (context) => {
  const lists = [2000n, 1000n].map((trimmedThrough, index) => {
    const list = new ListArchive(makeMessages(0n, 5000), `peer-${index + 1}`);
    list.trimmedThrough = trimmedThrough;
    return list;
  });
  const server = await serve(
    context,
    lists.map(({ archive }) => archive),
  );
  const peers = lists.map(({ component }) => connect(context, server.address, { flow: component }));
  await using ledger = await openIn(temporaryDirectory(context));
  const { applied, lost, fill } = filling(peers, { afterId: 500n, ledger });
  await assert.rejects(fillGap(fill), (error) => {
    assert.ok(error instanceof DataTrimmed);
    assert.equal(error.requestedId, 501n);
    assert.equal(error.minAvailableId, 1001n);
    return true;
  });
  assert.deepEqual(applied, []);
  assert.equal(lost.length, 1);
  assert.deepEqual([lost[0]?.afterId, lost[0]?.throughId], [500n, 1000n]);
  assert.equal(lost[0]?.answers.length, 2);
  const loss = { cause: "missing", consumer: "trades", fromId: 501n, throughId: 1000n };
  assert.partialDeepStrictEqual(ledger.losses(), { losses: [loss], unreadable: 0 });
  // Found out again, it is told again, and the ledger has it.
  await assert.rejects(fillGap(fill), hasCode("DATA_TRIMMED"));
  assert.equal(lost.length, 2);
  assert.equal(ledger.losses().losses.length, 1);

  // From where one of them has it, it goes on.
  const rest = filling(peers, { afterId: 1000n });
  await fillGap(rest.fill);
  assert.deepEqual(rest.applied, makeMessages(1000n, 4000));
});

test("who says that what is asked for is trimmed, and means something else, lies", async (context) => {
  const { archive } = new ListArchive(makeMessages(0n, 300));
  await using ledger = await openIn(temporaryDirectory(context));
  const answers: readonly Partial<GapPeer>[] = [
    { read: () => Promise.reject(new DataTrimmed(1n, 50n)) },
    { read: () => Promise.reject(new DataTrimmed(101n, 101n)) },
    { status: () => Promise.reject(new DataTrimmed(101n, 150n)) },
  ];
  for (const answer of answers) {
    const liar: GapPeer = { ...archive, ...answer };
    const { fill, lost } = filling([liar], { afterId: 100n, throughId: 200n, ledger });
    await assert.rejects(fillGap(fill), hasCode("PEER_UNAVAILABLE"));
    assert.deepEqual(lost, []);
    assert.deepEqual(ledger.losses().losses, []);
  }
});

test("what was trimmed to the end is lost, and not merely late", async (context) => {
  await using buffer = await openIn(temporaryDirectory(context));
  await buffer.append(makeMessages(0n, 100));
  await buffer.trim(101n);
  const server = await serve(context, [buffer.archive]);
  const peer = connect(context, server.address);
  assert.deepEqual(await peer.status(), { minId: undefined, maxId: 100n, logPosition: 0n });
  assert.deepEqual(await peer.bounds(), { minId: 101n, maxId: 100n });
  const { lost, fill } = filling([peer], { afterId: 50n, throughId: 80n });
  await assert.rejects(fillGap(fill), (error) => {
    assert.ok(error instanceof DataTrimmed);
    assert.deepEqual([error.requestedId, error.minAvailableId], [51n, 101n]);
    return true;
  });
  assert.deepEqual([lost[0]?.afterId, lost[0]?.throughId], [50n, 80n]);
});

test("what one has trimmed is not lost while another one does not answer", async () => {
  const trimmed = new ListArchive(makeMessages(0n, 5000));
  trimmed.trimmedThrough = 100n;
  const silent = archiveThat(() =>
    Promise.reject(new GaplessError("PEER_UNAVAILABLE", "it is down")),
  );
  const { lost, fill } = filling([trimmed.archive, silent], { timeoutMs: 200 });
  await assert.rejects(fillGap(fill), (error) => {
    assert.match(String(error), /peer 1: Gone: id=1 .* \| peer 2: it is down/);
    return hasCode("PEER_UNAVAILABLE")(error);
  });
  assert.deepEqual(lost, []);
  const behind = new ListArchive([]).archive;
  const both = filling([trimmed.archive, behind], { timeoutMs: 200 });
  await assert.rejects(fillGap(both.fill), hasCode("DATA_TRIMMED"));
  assert.equal(both.lost.length, 1);
});

test("what is lost begins where it was missed, whatever a peer said of an earlier question", async (context) => {
  // It is asked first, has trimmed what comes first, and has not come as far as the other one.
  const short = new ListArchive(makeMessages(0n, 80));
  short.trimmedThrough = 60n;
  const long = new ListArchive(makeMessages(0n, 300));
  const { archive } = long;
  let isUp = false;
  const later: GapPeer = {
    read: (fromId, limit) => {
      if (fromId > 100n) long.trimmedThrough = 150n;
      return archive.read(fromId, limit);
    },
    status: async () => {
      if (isUp) return archive.status();
      isUp = true;
      throw new GaplessError("PEER_UNAVAILABLE", "It starts.");
    },
  };
  await using ledger = await openIn(temporaryDirectory(context));
  const { applied, lost, fill } = filling([short.archive, later], {
    afterId: 50n,
    throughId: 200n,
    batchMax: 50,
    timeoutMs: 200,
    ledger,
  });
  await assert.rejects(fillGap(fill), (error) => {
    assert.ok(error instanceof DataTrimmed);
    assert.deepEqual([error.requestedId, error.minAvailableId], [101n, 151n]);
    return true;
  });
  assert.equal(applied.at(-1)?.id, 100n);
  assert.deepEqual([lost[0]?.afterId, lost[0]?.throughId], [100n, 150n]);
  const loss = { cause: "missing", fromId: 101n, throughId: 150n };
  assert.partialDeepStrictEqual(ledger.losses(), { losses: [loss], unreadable: 0 });
});

test("a peer that starts, or catches up, while it is waited for is in time", async () => {
  const list = new ListArchive(makeMessages(0n, 10));
  const { applied, fill } = filling([list.archive], { throughId: 20n });
  setTimeout(() => list.messages.push(...makeMessages(10n, 10)), 200);
  await fillGap(fill);
  assert.deepEqual(applied, list.messages);
});

test("ids may skip: a range ends where the chain shows that nothing is missing", async () => {
  const list = new ListArchive(makeMessages(0n, 100, 10, 10n));
  for (const [afterId, throughId, count] of [
    [0n, 1000n, 100],
    [10n, 25n, 1],
    [20n, 29n, 0],
    [30n, 30n, 0],
    [990n, 1000n, 1],
  ] as const) {
    const { applied, fill } = filling([list.archive], { afterId, throughId });
    const lastId = afterId + BigInt(count) * 10n;
    assert.deepEqual(await fillGap(fill), { messages: count, lastId });
    assert.equal(applied.length, count);
  }
});

test("G7: what is no id is an error of the caller, not a lie of the peers", async () => {
  const list = new ListArchive(makeMessages(0n, 10));
  for (const wrong of [{ afterId: -1n }, { throughId: 2n ** 64n }, { afterId: 5 as never }]) {
    const { fill } = filling([list.archive], { throughId: 10n, ...wrong });
    await assert.rejects(fillGap(fill), hasCode("INVALID_OPERATION"));
  }
});

test("a signal ends a fill, and what fails to apply is not asked for again", async () => {
  const list = new ListArchive(makeMessages(0n, 10));
  const stopping = new AbortController();
  const { fill } = filling([list.archive], { signal: stopping.signal });
  setTimeout(() => stopping.abort(new Error("enough")), 50);
  await assert.rejects(fillGap(fill), /enough/);
  const apply = (): Promise<void> => Promise.reject(new Error("no room"));
  await assert.rejects(fillGap({ ...fill, signal: AbortSignal.any([]), apply }), /no room/);
  const none = filling([]);
  await assert.rejects(fillGap(none.fill), hasCode("CONFIG_INVALID"));
});

test("whatever peers have, a fill applies what they have together, and no more", async () => {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`SEED=${seed}`);
  const random = seededRandom(seed);
  for (let run = 0; run < 150; run++) {
    const stream = makeMessages(0n, 60, 4, BigInt(1 + random.below(3)));
    const peers = Array.from({ length: 1 + random.below(4) }, () => makePeer(stream, random));
    const throughId = stream[random.below(stream.length)]?.id ?? 0n;
    const expected = reachable(stream, peers, throughId);
    const { applied, lost, fill } = filling(
      peers.map(({ peer }) => peer),
      { throughId, batchMax: 1 + random.below(20), timeoutMs: 120 },
    );
    const outcome = await fillGap(fill).then(
      () => "filled",
      (error: unknown) => (isGaplessError(error) ? error.code : String(error)),
    );
    assert.deepEqual(applied, expected, `run ${run}`);
    const isWhole = expected.at(-1)?.id === throughId;
    assert.equal(outcome === "filled", isWhole, `run ${run}: ${outcome}`);
    assert.equal(lost.length, outcome === "DATA_TRIMMED" ? 1 : 0);
    assert.ok(["filled", "DATA_TRIMMED", "PEER_UNAVAILABLE"].includes(outcome), outcome);
  }
});

interface Having {
  readonly peer: GapPeer;
  readonly list: ListArchive;
}

/** Has a part of the stream, and fails now and then. */
function makePeer(stream: readonly Message[], random: Random): Having {
  const list = new ListArchive(stream.slice(0, random.below(stream.length + 1)));
  const trimmed = random.below(2) === 0 ? 0 : random.below(list.messages.length + 1);
  list.trimmedThrough = list.messages[trimmed - 1]?.id ?? 0n;
  const { archive } = list;
  let failures = random.below(3);
  const falter = (): void => {
    if (failures === 0 || random.below(3) > 0) return;
    failures--;
    throw new GaplessError("PEER_UNAVAILABLE", "faltering, as asked");
  };
  const peer: GapPeer = {
    async read(fromId, limit) {
      falter();
      return archive.read(fromId, limit);
    },
    async status() {
      falter();
      return archive.status();
    },
  };
  return { peer, list };
}

/** What a fill from the beginning gets, as long as anybody has the next message. */
function reachable(
  stream: readonly Message[],
  peers: readonly Having[],
  throughId: bigint,
): Message[] {
  const found: Message[] = [];
  for (const message of stream) {
    if (message.id > throughId) break;
    // Asked from the id behind the one before, which may be one that was skipped.
    const has = ({ list }: Having): boolean =>
      list.trimmedThrough < message.prevId + 1n && list.messages.includes(message);
    if (!peers.some(has)) break;
    found.push(message);
  }
  return isBatch(found) && lastIdOf(found) > 0n ? found : [];
}
