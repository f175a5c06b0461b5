import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import test from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { Alarm } from "../../../src/memory/alarm.ts";
import { futexWake } from "../../../src/memory/futex.ts";
import { firstLine, foreverMs, makeWord, start } from "./shared-words.ts";

test("an alarm wakes its own sleeper, and nobody who sleeps on the same word elsewhere", async (context) => {
  const word = makeWord(context);
  const alarms = [new Alarm(), new Alarm(), new Alarm(), new Alarm(), new Alarm()] as const;
  const awake = new Set<Alarm>();
  const sleeps = alarms.map(async (alarm) => {
    await alarm.sleep([word], foreverMs);
    awake.add(alarm);
  });
  await wait(5);
  // More sleep than may take a thread of the pool: files can be read all the same.
  await fs.promises.readFile(word.filePath);
  for (const [index, alarm] of alarms.entries()) {
    if (index === 3) break;
    assert.equal(awake.size, index);
    alarm.ring();
    await sleeps[index];
  }
  assert.equal(awake.size, 3);
  Atomics.store(word.words, 0, 1);
  futexWake(word.address);
  await Promise.all(sleeps);
});

test("an alarm that rang before the sleep does not keep it from sleeping", async (context) => {
  const word = makeWord(context);
  const alarm = new Alarm();
  alarm.ring();
  const before = performance.now();
  alarm.sleepBlocking([word], 5);
  await alarm.sleep([], 5);
  assert.ok(performance.now() - before >= 9);
});

test("a process that exits while it sleeps on others' words does not wait for its timeout", async (context) => {
  const { filePath } = makeWord(context);
  const sleeper = start(context, "futex-any-sleeper.ts", ["exit", String(foreverMs), filePath]);
  assert.equal(await firstLine(sleeper), "sleeping");
  assert.deepEqual(await once(sleeper, "close"), [0, null]);
});
