import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setImmediate as nextTurn, setTimeout as wait } from "node:timers/promises";
import {
  futexWaitAny,
  futexWaitAnyAsync,
  futexWake,
  type AwaitedWord,
} from "../../../src/memory/futex.ts";
import { mapFile } from "../../../src/memory/mapping.ts";
import { firstLine, foreverMs, makeDirectory, makeWord, start } from "./shared-words.ts";

const forms = ["blocking", "async"] as const;
const compiler = spawnSync("cc", ["--version"]).status === 0;
const skip = compiler ? false : "no C compiler (cc)";

function makeWords(context: TestContext, count: number): ReturnType<typeof makeWord>[] {
  return Array.from({ length: count }, () => makeWord(context));
}

for (const form of forms) {
  test(`${form}: a process that sleeps on words of many files is woken by any of them`, async (context) => {
    const words = makeWords(context, 3);
    const filePaths = words.map(({ filePath }) => filePath);
    for (const { address } of words) {
      const name = "futex-any-sleeper.ts";
      const sleeper = start(context, name, [form, String(foreverMs), ...filePaths]);
      assert.equal(await firstLine(sleeper), "sleeping");
      const ended = once(sleeper, "close");
      // It may still be on its way to sleep, so one wake-up is not enough. No word ever changes.
      while (sleeper.exitCode === null && sleeper.signalCode === null) {
        futexWake(address);
        await nextTurn();
      }
      assert.deepEqual(await ended, [0, null]);
    }
  });

  for (const count of [3, 200]) {
    test(
      `${form}: a kernel without futex_waitv, and ${count} words: a change is seen all the same`,
      {
        skip,
      },
      async (context) => {
        const library = path.join(makeDirectory(context), "without-waitv.so");
        const source = path.join(import.meta.dirname, "without-waitv.c");
        const flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", library];
        const built = spawnSync("cc", [...flags, source, "-ldl"], { encoding: "utf8" });
        assert.equal(built.status, 0, built.stderr);
        const words = makeWords(context, 3);
        const filePaths = Array.from({ length: count }, (_, index) => words[index % 3]?.filePath);
        const sleeper = start(
          context,
          "futex-any-sleeper.ts",
          [form, String(foreverMs), ...filePaths.map(String)],
          { LD_PRELOAD: library },
        );
        assert.equal(await firstLine(sleeper), "sleeping");
        const ended = once(sleeper, "close");
        const [, second] = words;
        assert.ok(second);
        // A wake-up without a change: a kernel that knew the call would end the sleep.
        for (let turn = 0; turn < 50; turn++) {
          futexWake(second.address);
          await wait(2);
        }
        assert.equal(sleeper.exitCode, null);
        Atomics.store(second.words, 0, 1);
        assert.deepEqual(await ended, [0, null]);
      },
    );
  }
}

test("the event loop stays free while one of many processes is awaited", async (context) => {
  const words = makeWords(context, 2);
  const waker = start(context, "futex-waker.ts", [words[1]?.filePath ?? ""]);
  assert.equal(await firstLine(waker), "ready");
  let awake = false;
  const woken = futexWaitAnyAsync(words, foreverMs).then(() => void (awake = true));
  for (let tick = 0; tick < 3; tick++) await wait(1);
  await fs.promises.readFile(words[0]?.filePath ?? "");
  assert.equal(awake, false);
  waker.stdin?.write("\n");
  await woken;
  assert.equal(Atomics.load(words[1]?.words ?? new Int32Array(1), 0), 1);
});

test("128 words are slept on at once, and more are looked at: a change of the last one is seen", async (context) => {
  const { address, words, filePath } = makeWord(context);
  const last = makeWord(context);
  for (const count of [1, 128, 129, 1000]) {
    const many: AwaitedWord[] = Array.from({ length: count - 1 }, () => ({
      ...{ address, words, index: 0, expected: 0 },
    }));
    Atomics.store(last.words, 0, 0);
    let awake = false;
    const woken = futexWaitAnyAsync([...many, last], foreverMs).then(() => void (awake = true));
    await wait(5);
    await fs.promises.readFile(filePath);
    assert.equal(awake, false);
    Atomics.store(last.words, 0, 1);
    futexWake(last.address);
    await woken;
    futexWaitAny([...many, last], foreverMs);
  }
});

test("a word among many that has changed already, or is given back, is not slept on", async (context) => {
  const words = makeWords(context, 2);
  const changed = makeWord(context);
  Atomics.store(changed.words, 0, -5);
  const { filePath } = makeWord(context);
  const mapping = mapFile(filePath, 8);
  const { address, buffer } = mapping;
  const gone = { words: new Int32Array(buffer), index: 0, address, expected: 0 };
  mapping.unmap();
  for (const last of [changed, gone]) {
    for (const count of [1, 100]) {
      const many = [...Array.from({ length: count }, () => words).flat(), last];
      futexWaitAny(many, foreverMs);
      await futexWaitAnyAsync(many, foreverMs);
    }
  }
  // What is expected may be negative as well: the kernel compares 32 bits.
  changed.expected = -5;
  const before = performance.now();
  futexWaitAny([changed], 5);
  await futexWaitAnyAsync([changed], 5);
  assert.ok(performance.now() - before >= 10);
});

test("a wait for any ends with its timeout, and not before", async (context) => {
  const word = makeWord(context);
  for (const count of [1, 2, 128, 129]) {
    const many = Array.from({ length: count }, () => word);
    for (const timeoutMs of [0, 0.4, 20, 999.999_999_9]) {
      // Long ones once: they show that a fraction is not rounded up to what the kernel refuses.
      if (timeoutMs > 100 && count !== 2) continue;
      let startMs = performance.now();
      futexWaitAny(many, timeoutMs);
      assert.ok(performance.now() - startMs >= timeoutMs, `${count} words, ${timeoutMs} ms`);
      startMs = performance.now();
      await futexWaitAnyAsync(many, timeoutMs);
      assert.ok(performance.now() - startMs >= timeoutMs - 1, `${count} words, ${timeoutMs} ms`);
    }
  }
});
