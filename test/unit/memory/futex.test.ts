import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import test from "node:test";
import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import { futexWait, futexWaitAsync, futexWake } from "../../../src/memory/futex.ts";
import { firstLine, foreverMs, makeWord, start } from "./shared-words.ts";

test("a process that sleeps on a word is woken by another", async (context) => {
  const { filePath, address } = makeWord(context);
  const sleeper = start(context, "futex-sleeper.ts", [filePath, String(foreverMs)]);
  assert.equal(await firstLine(sleeper), "sleeping");
  const ended = once(sleeper, "close");
  // It may still be on its way to sleep, so one wake-up is not enough. The word never changes.
  while (sleeper.exitCode === null && sleeper.signalCode === null) {
    futexWake(address);
    await nextTurn();
  }
  assert.deepEqual(await ended, [0, null]);
});

test("the event loop stays free while another process is awaited", async (context) => {
  const { filePath, address, words } = makeWord(context);
  const waker = start(context, "futex-waker.ts", [filePath]);
  assert.equal(await firstLine(waker), "ready");
  let awake = false;
  const woken = futexWaitAsync(address, 0, foreverMs).then(() => void (awake = true));
  // Timers fire, and files are read, while the pool thread sleeps.
  for (let tick = 0; tick < 3; tick++) await wait(1);
  await fs.promises.readFile(filePath);
  assert.equal(awake, false);
  waker.stdin?.write("\n");
  await woken;
  assert.equal(Atomics.load(words, 0), 1);
});

test("a word that has changed already is not slept on", async (context) => {
  const { address, words } = makeWord(context);
  Atomics.store(words, 0, -5);
  futexWait(address, 0, foreverMs);
  await futexWaitAsync(address, 0, foreverMs);
  futexWait(address + 4n, 1, foreverMs);
});

test("everybody who sleeps on a word is woken, and nobody next to it", async (context) => {
  const { address, words } = makeWord(context);
  let neighbourAwake = false;
  const neighbour = futexWaitAsync(address + 4n, 0, foreverMs).then(
    () => void (neighbourAwake = true),
  );
  const sleepers = [1, 2].map(() => futexWaitAsync(address, 0, foreverMs));
  await wait(1);
  Atomics.store(words, 0, 1);
  futexWake(address);
  await Promise.all(sleepers);
  assert.equal(neighbourAwake, false);
  Atomics.store(words, 1, 1);
  futexWake(address + 4n);
  await neighbour;
});

test("a wait ends with its timeout, and not before", async (context) => {
  const { address } = makeWord(context);
  for (const timeoutMs of [0, 0.4, 20]) {
    let startMs = performance.now();
    futexWait(address, 0, timeoutMs);
    assert.ok(performance.now() - startMs >= timeoutMs);
    startMs = performance.now();
    await futexWaitAsync(address, 0, timeoutMs);
    assert.ok(performance.now() - startMs >= timeoutMs);
  }
});

test("a timeout a hair below whole seconds is waited for like any other", async (context) => {
  const { address, words } = makeWord(context);
  let awake = false;
  const woken = futexWaitAsync(address, 0, foreverMs - 1e-7).then(() => void (awake = true));
  await wait(5);
  assert.equal(awake, false);
  Atomics.store(words, 0, 1);
  futexWake(address);
  await woken;
});
