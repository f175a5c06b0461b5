import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import test, { type TestContext } from "node:test";
import { isGaplessError } from "../../../src/errors.ts";
import { openQueue } from "../../../src/queue/queue.ts";
import { makeDirectory, makeMessages, readAll } from "./scratch.ts";

interface Appender {
  readonly child: ChildProcess;
  /** Resolves once it has reported so many appends. */
  appended(count: number): Promise<void>;
  /** Kills it, where it has not done so itself: the last id that it has reported. */
  killed(): Promise<bigint>;
}

function startAppender(context: TestContext, directory: string, when = "never"): Appender {
  const program = path.join(import.meta.dirname, "appender.ts");
  const child = spawn(process.execPath, ["--conditions=source", program, directory, when], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(() => child.kill("SIGKILL"));
  const exited = once(child, "close");
  let lastId = 0n;
  let reports = 0;
  let wake = (): void => undefined;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [, id] = line.split(" ");
    lastId = BigInt(id ?? "");
    reports += 1;
    wake();
  });
  return {
    child,
    async appended(count) {
      while (reports <= count) await new Promise<void>((resolve) => (wake = resolve));
    },
    async killed() {
      if (when === "never") child.kill("SIGKILL");
      const [, signal] = (await exited) as [unknown, unknown];
      assert.equal(signal, "SIGKILL");
      return lastId;
    },
  };
}

async function assertHolds(directory: string, acknowledgedId: bigint): Promise<void> {
  await using queue = await openQueue({ directory });
  assert.ok(queue.lastId >= acknowledgedId, `${queue.lastId} < ${acknowledgedId}`);
  assert.equal(queue.durableId, queue.lastId);
  assert.deepEqual(await readAll(queue), makeMessages(0n, Number(queue.lastId)));
}

test("G3: a kill at any moment of appending loses nothing acknowledged", async (t) => {
  const directory = makeDirectory(t);
  for (const count of [1, 40, 120]) {
    const appender = startAppender(t, directory);
    await appender.appended(count);
    await assertHolds(directory, await appender.killed());
  }
});

for (const when of ["queue.appended 37", "queue.durable 2", "record 1", "record 700"]) {
  test(`G3: a kill at ${when} loses nothing acknowledged`, async (t) => {
    const directory = makeDirectory(t);
    const appender = startAppender(t, directory, when);
    await assertHolds(directory, await appender.killed());
  });
}

test("a live process keeps its queue, a dead one is taken over from", async (t) => {
  const directory = makeDirectory(t);
  const appender = startAppender(t, directory);
  await appender.appended(0);
  await assert.rejects(openQueue({ directory }), (error) => {
    assert.ok(isGaplessError(error, "ALREADY_OPEN"));
    assert.match(error.message, new RegExp(`pid=${appender.child.pid}\\b`));
    return true;
  });
  await appender.killed();
  assert.ok(fs.existsSync(path.join(directory, "writer.lock")));
  const queue = await openQueue({ directory });
  await assert.rejects(openQueue({ directory }), (error) => isGaplessError(error, "ALREADY_OPEN"));
  await queue.close();
  await (await openQueue({ directory })).close();
});
