import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isGaplessError } from "../../../src/errors.ts";
import { silenceAt } from "../../../src/memory/heartbeat.ts";
import { acquireLock } from "../../../src/memory/lock-file.ts";
import {
  createControl,
  newIdentity,
  openControl,
  writerLockName,
  type Control,
} from "../../../src/queue/control.ts";
import { controlOffset, segmentFileName, writerState } from "../../../src/queue/layout.ts";
import { detectDisconnect, writerStatus } from "../../../src/queue/liveness.ts";
import { openPublisher } from "../../../src/queue/queue.ts";
import { openSubscriber } from "../../../src/queue/subscriber.ts";
import { stepChannelName } from "../../../src/steps.ts";
import { startChild, until, type Child } from "../../support/queue-children.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

/** A living writer beats ten times as often. */
const ttlMs = 1000;
const options = { segmentBytes: 4096, preallocate: false };

interface Held {
  readonly directory: string;
  readonly child: Child;
  readonly control: Control;
}

/** A queue that another process has open, with ten messages in it. */
async function hold(context: TestContext): Promise<Held> {
  const directory = path.join(makeFastDirectory(context), "queue");
  const child = startChild(context, "hold", { directory, options });
  assert.equal(await child.next(), "1");
  child.tell("append 10");
  assert.equal(await child.next(), "append");
  const control = openControl(directory, "read");
  context.after(() => control.mapping.unmap());
  return { directory, child, control };
}

test("a writer that has nothing to write is alive", async (t) => {
  const { directory, child, control } = await hold(t);
  await pause(500);
  const status = writerStatus(control, directory, 400);
  assert.ok(status.silentMs <= 400);
  assert.deepEqual(
    { ...status, silentMs: 0 },
    { state: "alive", pid: child.pid, epoch: 1, silentMs: 0, sequence: 10, lock: true },
  );
  assert.equal(detectDisconnect(control, directory, 400), undefined);
});

test("a writer whose process is stopped is silent, and alive once it goes on", async (t) => {
  const { directory, child, control } = await hold(t);
  process.kill(child.pid, "SIGSTOP");
  await until("it is silent", () => writerStatus(control, directory, ttlMs).state === "silent");
  const { lock, silentMs, pid } = writerStatus(control, directory, ttlMs);
  assert.equal(lock, true);
  assert.equal(pid, child.pid);
  assert.ok(silentMs > ttlMs && silentMs < 60_000);
  assert.equal(detectDisconnect(control, directory, ttlMs), "heartbeat-stale");
  assert.equal(detectDisconnect(control, directory, 60_000), undefined);
  process.kill(child.pid, "SIGCONT");
  await until("it is back", () => detectDisconnect(control, directory, ttlMs) === undefined);
});

test("a writer that was killed is dead at once, and its lock is lost", async (t) => {
  const { directory, child, control } = await hold(t);
  await child.kill();
  const { state, lock, sequence, pid } = writerStatus(control, directory, 60_000);
  assert.deepEqual(
    { state, lock, sequence, pid },
    { state: "dead", lock: false, sequence: 10, pid: child.pid },
  );
  assert.equal(detectDisconnect(control, directory, 60_000), "writer-lock-lost");

  await using publisher = openPublisher(directory, options);
  assert.equal(publisher.epoch, 2);
  const next = writerStatus(control, directory, ttlMs);
  assert.deepEqual(
    { ...next, silentMs: 0 },
    {
      state: "alive",
      pid: process.pid,
      epoch: 2,
      silentMs: 0,
      sequence: 10,
      lock: true,
    },
  );
  assert.equal(detectDisconnect(control, directory, ttlMs), undefined);
});

test("a writer that has closed the queue and lives on does not write", async (t) => {
  const { directory, child, control } = await hold(t);
  child.tell("close");
  assert.equal(await child.next(), "close");
  const { state, lock } = writerStatus(control, directory, 60_000);
  assert.deepEqual({ state, lock }, { state: "closed", lock: false });
  assert.equal(detectDisconnect(control, directory, 60_000), "writer-lock-lost");
});

test("a writer whose lock another one has, or nobody, has lost it", async (t) => {
  const { directory, control } = await hold(t);
  const lock = path.join(directory, writerLockName);
  const text = fs.readFileSync(lock, "utf8");
  const other = { ...(JSON.parse(text) as object), pid: process.pid };
  for (const found of [JSON.stringify(other), "nobody"]) {
    fs.writeFileSync(lock, found);
    assert.equal(detectDisconnect(control, directory, ttlMs), "writer-lock-lost", found);
    assert.equal(writerStatus(control, directory, ttlMs).state, "alive");
  }
  fs.rmSync(lock);
  assert.equal(detectDisconnect(control, directory, ttlMs), "writer-lock-lost");
  fs.writeFileSync(lock, text);
  assert.equal(detectDisconnect(control, directory, ttlMs), undefined);
});

test("the file that is written is missed, whatever else is the matter", async (t) => {
  const { directory, child, control } = await hold(t);
  child.tell("append 100");
  assert.equal(await child.next(), "append");
  fs.rmSync(path.join(directory, segmentFileName(1)));
  assert.equal(detectDisconnect(control, directory, ttlMs), undefined, "retention may delete that");
  fs.rmSync(path.join(directory, segmentFileName(5)));
  assert.equal(detectDisconnect(control, directory, ttlMs), "segment-missing");
  fs.rmSync(directory, { recursive: true });
  assert.equal(detectDisconnect(control, directory, ttlMs), "segment-missing");
  await child.kill();
  assert.equal(detectDisconnect(control, directory, ttlMs), "segment-missing");
});

test("a queue that nobody has written to has no writer", async (t) => {
  const directory = makeFastDirectory(t);
  createControl(directory, newIdentity());
  const control = openControl(directory, "read");
  assert.deepEqual(writerStatus(control, directory, ttlMs), {
    state: "closed",
    pid: 0,
    epoch: 0,
    silentMs: Infinity,
    sequence: 0,
    lock: false,
  });
  assert.equal(detectDisconnect(control, directory, ttlMs), "writer-lock-lost");
  control.mapping.unmap();
});

test("a writer of an earlier boot is dead, whoever has its process id now", async (t) => {
  const { directory, child } = await hold(t);
  await child.kill();
  const control = openControl(directory, "write");
  control.words[controlOffset.pid / 4] = process.pid;
  Buffer.from(control.mapping.buffer, controlOffset.boot, 16).fill(7);
  const { state, silentMs } = writerStatus(control, directory, ttlMs);
  assert.deepEqual({ state, silentMs }, { state: "dead", silentMs: Infinity });
  control.mapping.unmap();
});

test("a subscriber says of its queue the same, until it is closed", async (t) => {
  const { directory, child } = await hold(t);
  const subscriber = openSubscriber(directory, "ledger");
  assert.equal(subscriber.writerStatus(ttlMs).pid, child.pid);
  assert.equal(subscriber.detectDisconnect(ttlMs), undefined);
  await child.kill();
  assert.equal(subscriber.writerStatus(ttlMs).state, "dead");
  assert.equal(subscriber.detectDisconnect(ttlMs), "writer-lock-lost");
  for (const wrong of [-1, NaN]) {
    assert.throws(
      () => subscriber.writerStatus(wrong),
      (error) => isGaplessError(error, "CONFIG_INVALID"),
    );
  }
  await subscriber.close();
  assert.throws(
    () => subscriber.detectDisconnect(ttlMs),
    (error) => isGaplessError(error, "CLOSED"),
  );
});

test("who is only about to write is not taken over from, however long nobody has", async (t) => {
  const { directory, child } = await hold(t);
  await child.kill();
  await pause(1100);
  const release = acquireLock(path.join(directory, writerLockName));
  assert.throws(
    () => openPublisher(directory, { ...options, takeOverAfterMs: 1000 }),
    (error) => isGaplessError(error, "WRITER_ALREADY_ACTIVE"),
  );
  release();
  await openPublisher(directory, options).close();
});

test("a writer in a loop that never turns is alive as long as it writes", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  await using publisher = openPublisher(directory, options);
  const control = openControl(directory, "read");
  t.after(() => control.mapping.unmap());
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  for (let count = 0; count < 3; count++) {
    Atomics.wait(sleep, 0, 0, 300);
    publisher.append(1, new Uint8Array(8));
    const { silentMs } = writerStatus(control, directory, ttlMs);
    assert.ok(silentMs < 100, `silentMs=${silentMs}`);
  }
});

test("what a writer takes to open the queue is no silence of it", async (t) => {
  const directory = path.join(makeFastDirectory(t), "queue");
  await openPublisher(directory, options).close();
  const control = openControl(directory, "read");
  t.after(() => control.mapping.unmap());
  const sleep = (step: unknown): void => {
    if (step === "queue.entered") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
  };
  const { store } = Atomics;
  const silencesMs: number[] = [];
  Atomics.store = ((...args: Parameters<typeof store>) => {
    const stored = store(...args);
    const isOpen = Atomics.load(control.words, controlOffset.open / 4) === writerState.open;
    if (isOpen) silencesMs.push(silenceAt(control.words, controlOffset.heartbeat / 4));
    return stored;
  }) as typeof store;
  subscribe(stepChannelName, sleep);
  const publisher = openPublisher(directory, options);
  unsubscribe(stepChannelName, sleep);
  Object.assign(Atomics, { store });
  assert.ok(silencesMs.length > 0);
  assert.ok(Math.max(...silencesMs) < 300, silencesMs.join(" "));
  await publisher.close();
});
