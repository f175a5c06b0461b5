/** Buffers that follow a log, and are killed anywhere: its position is in their own writes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openMsgBuffer, replicate } from "../../src/buffer/buffer.ts";
import { openQueueLog } from "../../src/flow/queue-log.ts";
import { seededRandom } from "../../src/random.ts";
import { digestOf, LogModel } from "../support/log-model.ts";
import { makeFastDirectory } from "../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const rounds = 4;

/** Lets the replica go on for so long once it is open. */
async function runAndKill(t: TestContext, args: readonly string[], afterMs: number): Promise<void> {
  const program = path.join(import.meta.dirname, "../support/replica-buffer.ts");
  const child = spawn(process.execPath, ["--conditions=source", program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  await once(child.stdout, "data");
  await pause(afterMs);
  child.kill("SIGKILL");
  assert.deepEqual(await exited, [null, "SIGKILL"]);
}

test("buffers of a log, killed at any moment, hold the same, each command applied once", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(t);
  const directory = path.join(root, "log");
  const names = ["one", "two"];
  const model = new LogModel(random);
  await using log = await openQueueLog(directory, { replica: "parent", segmentBytes: 65_536 });
  let position = 0n;
  for (let round = 0; round < rounds; round++) {
    let alive = names.length;
    const deaths = names.map(async (name) => {
      await runAndKill(t, [directory, path.join(root, name), name], random.below(250));
      alive--;
    });
    while (alive > 0) {
      const command = model.next();
      model.apply(command);
      position = await log.propose(command);
      await pause(random.below(4));
    }
    await Promise.all(deaths);
  }

  for (const name of names) {
    const storage = { dbPath: path.join(root, name) };
    await using buffer = await openMsgBuffer({ component: name, storage });
    const abort = new AbortController();
    const stopAtEnd = (reached: bigint): void => {
      if (reached === position) abort.abort();
    };
    stopAtEnd(buffer.logPosition);
    const onRefused = (): void => undefined;
    await replicate(buffer, log, { signal: abort.signal, onProgress: stopAtEnd, onRefused });
    assert.equal(buffer.logPosition, position);
    const { messages } = model;
    const [first] = messages;
    const last = messages.at(-1);
    assert.ok(first !== undefined && last !== undefined);
    assert.deepEqual([await buffer.minId(), buffer.lastId], [first.id, last.id], name);
    const { count, sha256 } = await buffer.archive.digest(first.id, last.id);
    assert.deepEqual(
      [count, Buffer.from(sha256).toString("hex")],
      [messages.length, digestOf(messages)],
    );
    assert.equal((await buffer.stats()).total, messages.length);
  }
  t.diagnostic(`${position} commands, ${model.messages.length} messages left`);
});
