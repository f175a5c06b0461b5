/** The log on NATS JetStream, with one server. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";
import { connectNatsLog, type NatsLogOptions } from "../../../src/connect/nats.ts";
import { entryOf } from "../../../src/connect/nats-place.ts";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import { encodeCommand, type LogEntry, type LogReader } from "../../../src/flow/replicated-log.ts";
import type { Message } from "../../../src/message.ts";
import { lossyWayTo } from "../../support/nats-lossy.ts";
import { lacksNats, lacksNatsServer, someNats, startNats } from "../../support/nats.ts";

const withCode =
  (code: ErrorCode, text = "") =>
  (error: unknown): boolean =>
    isGaplessError(error, code) && error.message.includes(text);

function messageOf(id: bigint, size = 20): Message {
  return { id, prevId: id - 1n, timestampNs: id, bytes: new Uint8Array(size).fill(Number(id)) };
}

function optionsFor(servers: readonly string[]): NatsLogOptions {
  const name = `gapless-${randomUUID()}`;
  return { servers, stream: name, subject: `${name}.log`, replicas: 1, timeoutMs: 5000 };
}

async function take(log: LogReader, after: bigint, count: number): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for await (const batch of log.read(after, AbortSignal.timeout(20_000))) {
    entries.push(...batch);
    if (entries.length >= count) break;
  }
  return entries;
}

test(
  "commands come from a stream in the order of the calls, past and live, from any position",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = optionsFor(nats.servers);
    await using log = await connectNatsLog(options);
    const ids = Array.from({ length: 300 }, (_, index) => BigInt(index + 1));
    const proposals = ids.map((id) => log.propose({ kind: "append", messages: [messageOf(id)] }));
    assert.deepEqual(await Promise.all(proposals), ids);
    await using other = await connectNatsLog(options);
    const live = take(other, 280n, 21);
    assert.equal(await log.propose({ kind: "trim", beforeId: 9n }), 301n);
    const entries = await live;
    assert.deepEqual(
      entries.map(({ position }) => position),
      Array.from({ length: 21 }, (_, index) => BigInt(281 + index)),
    );
    assert.deepEqual(entries.at(-1)?.command, { kind: "trim", beforeId: 9n });
    const [first] = await take(other, 0n, 1);
    assert.ok(first?.command.kind === "append");
    assert.deepEqual(
      first.command.messages.map((it) => ({ ...it, bytes: [...it.bytes] })),
      [{ ...messageOf(1n), bytes: [...messageOf(1n).bytes] }],
    );
  },
);

test("an abort, and closing the log, end a reading that waits", { skip: lacksNats }, async () => {
  await using nats = await someNats();
  const log = await connectNatsLog(optionsFor(nats.servers));
  const abort = new AbortController();
  const aborted = log.read(0n, abort.signal)[Symbol.asyncIterator]().next();
  const closed = log.read(0n, new AbortController().signal)[Symbol.asyncIterator]().next();
  setTimeout(() => abort.abort(), 100);
  assert.equal((await aborted).done, true);
  await log.close();
  assert.equal((await closed).done, true);
  const late = log.propose({ kind: "trim", beforeId: 1n });
  await assert.rejects(late, withCode("CLOSED"));
  await log.close();
});

test(
  "what others publish to the subject is an entry that is no command",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = optionsFor(nats.servers);
    await using log = await connectNatsLog(options);
    const connection = await connect({ servers: [...nats.servers] });
    await connection.request(options.subject, "hello");
    await connection.close();
    const [entry] = await take(log, 0n, 1);
    assert.equal(entry?.command.kind, "unreadable");
  },
);

test(
  "a command that no server takes is refused before it is sent",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    await using log = await connectNatsLog(optionsFor(nats.servers));
    const messages = [messageOf(1n, 1024 * 1024)];
    const append = log.propose({ kind: "append", messages });
    await assert.rejects(append, withCode("MESSAGE_TOO_LARGE", "max_payload"));
    assert.equal(await log.propose({ kind: "trim", beforeId: 0n }), 1n);
  },
);

test(
  "a stream that is no log, or another one, is told from the log that a replica follows",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = optionsFor(nats.servers);
    const connection = await connect({ servers: [...nats.servers] });
    const manager = await jetstreamManager(connection);
    try {
      await manager.streams.add({ name: options.stream, subjects: ["somebody.else"] });
      const wrong = connectNatsLog(options);
      await assert.rejects(wrong, withCode("CONFIG_INVALID", 'subjects=["somebody.else"]'));
      await manager.streams.delete(options.stream);

      await using log = await connectNatsLog({ ...options, timeoutMs: 1000 });
      await log.propose({ kind: "trim", beforeId: 0n });
      await assert.rejects(take(log, 5n, 1), withCode("CHAIN_BROKEN", "position=5"));
      await manager.streams.delete(options.stream);
      await assert.rejects(take(log, 1n, 1), withCode("MESSAGES_LOST", "not there any more"));
      await using again = await connectNatsLog(options);
      assert.equal(await again.propose({ kind: "trim", beforeId: 0n }), 1n);
      await assert.rejects(take(log, 1n, 1), withCode("CHAIN_BROKEN", "made anew"));
    } finally {
      await connection.close();
    }
  },
);

test("a replica that is behind what the stream keeps is told", { skip: lacksNats }, async () => {
  await using nats = await someNats();
  await using log = await connectNatsLog({ ...optionsFor(nats.servers), bytes: 4096 });
  for (let id = 1n; id <= 10n; id++) {
    await log.propose({ kind: "append", messages: [messageOf(id, 1000)] });
  }
  await assert.rejects(take(log, 0n, 1), withCode("DATA_TRIMMED", "position=0"));
  assert.equal((await take(log, 9n, 1))[0]?.position, 10n);
});

test(
  "who has proposed nothing while the log gave up what came since goes on at its end",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = { ...optionsFor(nats.servers), bytes: 4096 };
    await using idle = await connectNatsLog(options);
    await using busy = await connectNatsLog(options);
    await idle.propose({ kind: "trim", beforeId: 0n });
    for (let id = 1n; id <= 10n; id++) {
      await busy.propose({ kind: "append", messages: [messageOf(id, 1000)] });
    }
    assert.equal(await idle.propose({ kind: "trim", beforeId: 0n }), 12n);
    assert.equal(await busy.propose({ kind: "trim", beforeId: 0n }), 13n);
  },
);

test(
  "a log in which nothing happens is no trouble, and what comes then comes at once",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const troubles: unknown[] = [];
    await using log = await connectNatsLog({
      ...optionsFor(nats.servers),
      heartbeatMs: 500,
      onTrouble: (trouble) => troubles.push(trouble),
    });
    const reading = take(log, 0n, 1);
    // Several fetches of four heartbeats each come to their end.
    await pause(4500);
    await log.propose({ kind: "trim", beforeId: 0n });
    const proposedMs = performance.now();
    assert.equal((await reading)[0]?.position, 1n);
    assert.ok(performance.now() - proposedMs < 1000);
    assert.deepEqual(troubles, []);
  },
);

test(
  "what is lost or repeated on the way to a reader is read, once, in its place",
  { skip: lacksNatsServer },
  async () => {
    await using nats = await startNats(1);
    const [server = ""] = nats.servers;
    const options = { ...optionsFor(nats.servers), heartbeatMs: 500 };
    await using log = await connectNatsLog(options);
    const proposals = Array.from({ length: 200 }, () =>
      log.propose({ kind: "trim", beforeId: 0n }),
    );
    await Promise.all(proposals);

    // Within others, and the last, behind which there is silence.
    const lost = [5, 70, 71, 72, 200];
    await using way = await lossyWayTo(server, {
      delivery(sequence) {
        if (lost.includes(sequence)) return "lose";
        return sequence % 3 === 0 ? "repeat" : "pass";
      },
    });
    const troubles: string[] = [];
    await using reader = await connectNatsLog({
      ...options,
      servers: way.server,
      connection: { ignoreClusterUpdates: true },
      onTrouble: ({ message }) => troubles.push(message),
    });
    const entries = await take(reader, 0n, 200);
    assert.deepEqual(
      entries.map(({ position }) => position),
      Array.from({ length: 200 }, (_, index) => BigInt(index + 1)),
    );
    assert.ok(
      troubles.some((it) => it.includes("after sequence=69 came 73")),
      troubles.join("\n"),
    );
    assert.ok(
      troubles.some((it) => it.includes("sequence=200 is there")),
      troubles.join("\n"),
    );
  },
);

test(
  "a proposal whose answer is lost is in the log once, and told its place",
  { skip: lacksNatsServer },
  async () => {
    await using nats = await startNats(1);
    const [server = ""] = nats.servers;
    const lost = new Set([1, 3, 4]);
    await using way = await lossyWayTo(server, {
      answer: (sequence) => (lost.delete(sequence) ? "lose" : "pass"),
    });
    const options = optionsFor([way.server]);
    const connection = { ignoreClusterUpdates: true };
    await using log = await connectNatsLog({ ...options, timeoutMs: 20_000, connection });
    for (let id = 1n; id <= 5n; id++) {
      assert.equal(await log.propose({ kind: "trim", beforeId: id }), id);
    }
    assert.equal(lost.size, 0);
    const entries = await take(log, 0n, 5);
    assert.deepEqual(
      entries.map(({ command }) => command),
      [1n, 2n, 3n, 4n, 5n].map((beforeId) => ({ kind: "trim", beforeId })),
    );
  },
);

test(
  "commands that two propose at the same time are all in the log, each once, at its place",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = { ...optionsFor(nats.servers), timeoutMs: 20_000 };
    await using one = await connectNatsLog(options);
    await using other = await connectNatsLog(options);
    const places = new Map<bigint, bigint>();
    const proposeAll = async (log: LogReader & { propose: typeof one.propose }, first: bigint) => {
      for (let id = first; id < first + 50n; id++) {
        places.set(await log.propose({ kind: "trim", beforeId: id }), id);
      }
    };
    await Promise.all([proposeAll(one, 1n), proposeAll(other, 1001n)]);
    const entries = await take(one, 0n, 100);
    assert.equal(entries.length, 100);
    for (const { position, command } of entries) {
      assert.deepEqual(command, { kind: "trim", beforeId: places.get(position) });
    }
  },
);

test(
  "who proposes now and then is not kept waiting by who never stops",
  { skip: lacksNats },
  async () => {
    await using nats = await someNats();
    const options = { ...optionsFor(nats.servers), timeoutMs: 60_000 };
    await using busy = await connectNatsLog(options);
    await using rare = await connectNatsLog(options);
    let isOver = false;
    const proposing = (async () => {
      while (!isOver) await busy.propose({ kind: "trim", beforeId: 0n });
    })();
    let waitedMs = 0;
    for (let turn = 1; turn <= 5; turn++) {
      await pause(100);
      const startedMs = performance.now();
      await rare.propose({ kind: "trim", beforeId: 1n });
      waitedMs += performance.now() - startedMs;
    }
    isOver = true;
    await proposing;
    assert.ok(waitedMs < 5000, `waited for ${Math.round(waitedMs)} ms`);
  },
);

test("a message whose sequence is not the place that it names is of a copy that is wrong", () => {
  const data = encodeCommand({ kind: "trim", beforeId: 5n });
  const named = headers();
  named.set("Nats-Expected-Last-Sequence", "41");
  const right = entryOf(42, { headers: named, data });
  assert.deepEqual(right, { position: 42n, command: { kind: "trim", beforeId: 5n } });
  assert.equal(entryOf(41, { headers: named, data }), undefined);
  assert.equal(entryOf(43, { headers: named, data }), undefined);
  assert.equal(entryOf(42, { headers: headers(), data })?.command.kind, "unreadable");
});

test("options that make no log are refused by name", async () => {
  const right: NatsLogOptions = { servers: "127.0.0.1:1", stream: "s", subject: "s.log" };
  const wrongs: Partial<Record<keyof NatsLogOptions, unknown>>[] = [
    { servers: [] },
    { stream: "a.b" },
    { subject: "a.>" },
    { subject: "" },
    { replicas: 2 },
    { timeoutMs: 0 },
    { heartbeatMs: 100 },
    { bytes: 1.5 },
  ];
  for (const wrong of wrongs) {
    const connecting = connectNatsLog({ ...right, ...wrong } as NatsLogOptions);
    await assert.rejects(connecting, withCode("CONFIG_INVALID", `${Object.keys(wrong)[0]}=`));
  }
});

test("servers that do not answer are PEER_UNAVAILABLE, and each try is told", async () => {
  const tries: unknown[] = [];
  const connecting = connectNatsLog({
    servers: "127.0.0.1:1",
    stream: "s",
    subject: "s.log",
    timeoutMs: 600,
    onTrouble: (trouble) => tries.push(trouble.code),
  });
  await assert.rejects(connecting, withCode("PEER_UNAVAILABLE", "127.0.0.1:1"));
  assert.ok(tries.length >= 2 && tries.every((code) => code === "PEER_UNAVAILABLE"));
});

test("without the client of NATS, what is to be installed is said", () => {
  const hook =
    'import { registerHooks } from "node:module";' +
    "registerHooks({ resolve(specifier, context, next) {" +
    '  if (specifier.startsWith("@nats-io/")) throw new Error(`Cannot find ${specifier}`);' +
    "  return next(specifier, context); } });";
  const program =
    'import { connectNatsLog } from "gapless/connect/nats";' +
    'await connectNatsLog({ servers: "a", stream: "s", subject: "s" }).catch((error) =>' +
    "  console.log(error.code, error.message));";
  const { stdout } = spawnSync(
    process.execPath,
    [
      "--conditions=source",
      "--import",
      `data:text/javascript,${encodeURIComponent(hook)}`,
      "--input-type=module",
      "--eval",
      program,
    ],
    { encoding: "utf8" },
  );
  assert.match(stdout, /^CONFIG_INVALID .*npm install @nats-io\/transport-node/);
});

test(
  "proposals and readings go on where the only server is restarted",
  { skip: lacksNatsServer },
  async () => {
    await using nats = await startNats(1);
    await using log = await connectNatsLog({ ...optionsFor(nats.servers), timeoutMs: 20_000 });
    const reading = take(log, 0n, 3);
    assert.equal(await log.propose({ kind: "trim", beforeId: 1n }), 1n);
    await nats.kill("node-1");
    const during = log.propose({ kind: "trim", beforeId: 2n });
    setTimeout(() => nats.start("node-1"), 500);
    assert.equal(await during, 2n);
    assert.equal(await log.propose({ kind: "trim", beforeId: 3n }), 3n);
    assert.deepEqual(
      (await reading).map(({ position }) => position),
      [1n, 2n, 3n],
    );
  },
);
