import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import {
  cleanupSegments,
  inspectQueue,
  openFanIn,
  openPublisher,
  openSubscriber,
  PassiveDiscovery,
  readLosses,
  removeReader,
  repairQueue,
  startRetention,
  verifyQueue,
  watchQueues,
  type Entry,
} from "../../../src/queue/queue.ts";
import { makeFastDirectory, payloadOf } from "../../support/queue-records.ts";

/** All that take the directory of a queue. */
const doors: Record<string, (directory: string) => unknown> = {
  openPublisher: (directory) => openPublisher(directory),
  openSubscriber: (directory) => openSubscriber(directory, "ledger"),
  PassiveDiscovery: (directory) => new PassiveDiscovery(directory, "ledger"),
  watchQueues: (directory) => watchQueues(directory, {}),
  startRetention: (directory) => startRetention(directory, { segments: 5 }),
  cleanupSegments: (directory) => cleanupSegments(directory, { segments: 5 }),
  inspectQueue: (directory) => inspectQueue(directory),
  verifyQueue: (directory) => verifyQueue(directory),
  repairQueue: (directory) => repairQueue(directory, { repairs: ["index"] }),
  removeReader: (directory) => removeReader(directory, "ledger"),
  readLosses: (directory) => readLosses(directory),
};

/** Whether it is refused with this code, by a throw or by a rejection. */
async function isRefused(act: () => unknown, code: ErrorCode, text: RegExp): Promise<void> {
  await assert.rejects(
    async () => act(),
    (error: unknown) => {
      assert.ok(isGaplessError(error, code), String(error));
      assert.match(error.message, text);
      return true;
    },
  );
}

test("a directory that is none is refused by every door, and nothing is made of it", async (t) => {
  const directory = makeFastDirectory(t);
  const file = path.join(directory, "file");
  fs.writeFileSync(file, "no queue");
  for (const [name, open] of Object.entries(doors)) {
    t.diagnostic(name);
    for (const none of [undefined, null, "", 5, {}]) {
      await isRefused(
        () => open(none as string),
        "CONFIG_INVALID",
        /directory=.*expected the path/,
      );
    }
    for (const taken of [file, path.join(file, "below")]) {
      await isRefused(() => open(taken), "CONFIG_INVALID", /directory=.*expected a directory/);
    }
  }
  assert.deepEqual(fs.readdirSync(directory), ["file"]);
  assert.equal(fs.readFileSync(file, "utf8"), "no queue");
});

test("a directory that a file system refuses to make is an error, and not an endless wait", () => {
  const open = `
    import { openPublisher } from "gapless/queue";
    try {
      openPublisher("/proc/gapless/queue");
    } catch ({ code, message }) {
      console.log(code, message);
    }`;
  const flags = ["--conditions=source", "--input-type=module", "--eval", open];
  const { stdout, signal } = spawnSync(process.execPath, flags, {
    encoding: "utf8",
    timeout: 20_000,
  });
  assert.equal(signal, null);
  assert.match(stdout, /SYSTEM_CALL_FAILED .*\/proc\/gapless/);
});

/** All that take options; with what else they need. */
const optionDoors: Record<string, (directory: string, options: object) => unknown> = {
  openPublisher: (directory, options) => openPublisher(directory, options),
  openSubscriber: (directory, options) => openSubscriber(directory, "ledger", options),
  openFanIn: (_directory, options) => openFanIn(options),
  PassiveDiscovery: (directory, options) => new PassiveDiscovery(directory, "ledger", options),
  "PassiveDiscovery, its subscriber": (directory, subscriber) =>
    new PassiveDiscovery(directory, "ledger", { subscriber }),
  watchQueues: (directory, options) => watchQueues(directory, options),
  "watchQueues, its subscriber": (directory, subscriber) => watchQueues(directory, { subscriber }),
  startRetention: (directory, options) => startRetention(directory, options),
  cleanupSegments: (directory, options) => cleanupSegments(directory, options),
  verifyQueue: (directory, options) => verifyQueue(directory, options),
  repairQueue: (directory, options) => repairQueue(directory, options as { repairs: [] }),
};

test("options that are none are refused by every door, and so are those that there are not", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  for (const [name, open] of Object.entries(optionDoors)) {
    t.diagnostic(name);
    const isInner = name.includes(",");
    for (const none of [null, 5, "fast"]) {
      if (isInner && none === null) continue;
      const act = (): unknown => open(directory, none as unknown as object);
      await isRefused(act, "CONFIG_INVALID", /options of .*expected an object/);
    }
    const misspelt = { segmentbytes: 4096 };
    await isRefused(() => open(directory, misspelt), "CONFIG_INVALID", /no option segmentbytes/);
  }
  for (const [act, text] of [
    [() => cleanupSegments(directory, undefined as never), /options of a retention policy/],
    [() => cleanupSegments(directory, { segments: 1.5 }), /segments=1.5/],
    [() => repairQueue(directory, {} as never), /repairs=undefined: expected an array/],
    [() => openFanIn({ watermarkMs: "5" as never }), /watermarkMs="5"/],
    [() => openFanIn({ clock: {} as never }), /clock=/],
    [() => new PassiveDiscovery(directory, ""), /reader=""/],
    [() => watchQueues(directory, { depth: 1.5 }), /depth=1.5/],
    [() => watchQueues(directory, { subscribeAs: "risk" }), /subscribeAs and onSubscriber/],
    [() => watchQueues(directory, { onSubscriber: () => 0 }), /subscribeAs and onSubscriber/],
    [() => watchQueues(directory, { onGone: 5 as never }), /onGone=5/],
    [
      () => openPublisher(directory, { durability: { intervalMs: -5 } }),
      /durability.intervalMs=-5/,
    ],
    [() => openPublisher(directory, { whenFull: { blockMs: -1 } }), /whenFull.blockMs=-1/],
  ] as const) {
    await isRefused(act, "CONFIG_INVALID", text);
  }
  assert.ok(!fs.existsSync(directory));
});

test("a publisher that is used wrongly says so with a code, and goes on", async (t) => {
  const directory = makeFastDirectory(t);
  const publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  const bytes = payloadOf(1);
  const none = undefined as never;
  const refused = async (): Promise<void> => {
    for (const [code, act] of [
      ["INPUT_MALFORMED", () => publisher.append(1n as never, bytes)],
      ["INPUT_MALFORMED", () => publisher.append("1" as never, bytes)],
      ["INPUT_MALFORMED", () => publisher.append(1, none)],
      ["INPUT_MALFORMED", () => publisher.claim(1, -1)],
      ["INPUT_MALFORMED", () => publisher.claim(1, Number.NaN)],
      ["INPUT_MALFORMED", () => publisher.claim(1, 1.5)],
      ["INPUT_MALFORMED", () => publisher.claim(1, "1" as never)],
      ["PAYLOAD_TOO_LARGE", () => publisher.claim(1, 1e9)],
      ["CONFIG_INVALID", () => publisher.appendMany(none)],
      ["CONFIG_INVALID", () => publisher.appendMany(5 as never)],
      ["INPUT_MALFORMED", () => publisher.appendMany([none])],
      ["INPUT_MALFORMED", () => publisher.appendMany([{ type: 1, payload: bytes }, none])],
      ["INPUT_MALFORMED", () => publisher.appendMany([{ type: 1, payload: bytes }, 5 as never])],
      ["INPUT_MALFORMED", () => publisher.waitForRoom(Number.NaN, 0)],
      ["INPUT_MALFORMED", () => publisher.waitForRoom("x" as never, 0)],
      ["PAYLOAD_TOO_LARGE", () => publisher.waitForRoom(1e9, 0)],
      ["CONFIG_INVALID", () => publisher.waitForRoom(1, Number.NaN)],
      ["CONFIG_INVALID", () => publisher.waitForRoom(1, 1, 5 as never)],
      ["CONFIG_INVALID", () => publisher.publish(1, bytes, { signal: 5 as never })],
      ["INVALID_OPERATION", () => publisher.commit()],
    ] as [ErrorCode, () => unknown][]) {
      await isRefused(act, code, /./);
    }
  };
  await refused();
  publisher.append(1, bytes);
  await refused();
  assert.equal(publisher.appendMany([]), 1);
  await assert.rejects(publisher.publish(1, bytes, { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.equal(publisher.lastSequence, 1);

  // With a claim open, whether what is asked for has room or not.
  const entry: Entry = { type: 1, payload: bytes };
  publisher.abort();
  for (const length of [bytes.length, 3000]) {
    const offset = publisher.claim(2, 8);
    publisher.memory.bytes.fill(7, offset, offset + 8);
    const payload = new Uint8Array(length);
    await isRefused(() => publisher.claim(1, length), "CLAIM_OPEN", /commit\(\) or abort\(\)/);
    await isRefused(() => publisher.append(1, payload), "CLAIM_OPEN", /./);
    await isRefused(() => publisher.appendMany([entry, { ...entry, payload }]), "CLAIM_OPEN", /./);
    await isRefused(() => publisher.publish(1, payload), "CLAIM_OPEN", /./);
    publisher.commit();
  }
  assert.equal(publisher.lastSequence, 3);
  await publisher.close();
  publisher.abort();
  for (const act of [
    () => publisher.commit(),
    () => publisher.claim(1, 1),
    () => publisher.append(1, bytes),
    () => publisher.appendMany([entry]),
    () => publisher.waitForRoom(1, 1),
    () => publisher.publish(1, bytes),
    () => publisher.flush(),
  ]) {
    await isRefused(act, "CLOSED", /./);
  }
  await using reader = openSubscriber(directory, "ledger");
  assert.deepEqual(
    [1, 2, 3].map(() => reader.next()?.type),
    [1, 2, 2],
  );
});

test("a reader or a fan-in that is used wrongly says so with a code, and stays where it is", async (t) => {
  const directory = makeFastDirectory(t);
  await using publisher = openPublisher(directory, { segmentBytes: 4096, preallocate: false });
  for (let count = 0; count < 5; count++) publisher.append(1, payloadOf(1));
  await using reader = openSubscriber(directory, "ledger");
  await using another = openSubscriber(directory, "risk");
  assert.ok(reader.next());
  using fanIn = openFanIn();
  const handler = (): void => assert.fail("nothing is given");
  const poll = (limit: unknown) => [
    () => reader.poll(handler, limit as number),
    () => fanIn.poll(handler, limit as number),
  ];
  for (const act of [
    ...[Number.NaN, undefined, -1].flatMap(poll),
    ...[-1, Number.NaN, "3", undefined, 0.5].map(
      (sequence) => () => reader.commitThrough(sequence as number),
    ),
    () => reader.wait(10, 5 as never),
    () => fanIn.wait(10, 5 as never),
    () => fanIn.wait(Number.NaN),
    () => fanIn.waitBlocking(Number.NaN),
    () => fanIn.waitBlocking("10" as never),
    () => fanIn.add(undefined as never, "queue"),
    () => fanIn.add({} as never, "queue"),
    () => fanIn.add(another, undefined as never),
  ]) {
    await isRefused(act, "CONFIG_INVALID", /=.*: expected /);
  }
  await isRefused(() => reader.commitThrough(2), "INVALID_OPERATION", /sequence=2.* taken 1 at/);
  assert.deepEqual([reader.position, reader.committed, fanIn.names.length], [2, 0, 0]);
});
