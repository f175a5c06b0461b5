/** Replicas of a log that are killed anywhere, again and again. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { replicate } from "../../src/buffer/replicate.ts";
import { openQueueLog } from "../../src/flow/queue-log.ts";
import { seededRandom } from "../../src/random.ts";
import { FileReplica } from "../support/file-replica.ts";
import { digestOf, LogModel } from "../support/log-model.ts";
import { makeFastDirectory } from "../support/queue-records.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const rounds = 10;

/** Resolves with the signal that has ended it. */
async function runReplica(
  context: TestContext,
  args: readonly string[],
  killAfterMs: number,
): Promise<unknown> {
  const program = path.join(import.meta.dirname, "../support/replica.ts");
  const child = spawn(process.execPath, ["--conditions=source", program, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const kill = (): boolean => child.kill("SIGKILL");
  context.after(kill);
  const timer = setTimeout(kill, killAfterMs);
  const [, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(timer);
  return signal;
}

test("replicas killed at any moment apply each command once, and end the same", async (context) => {
  context.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const root = makeFastDirectory(context);
  const directory = path.join(root, "log");
  const names = ["one", "two"];
  const model = new LogModel(random);
  const refused: bigint[] = [];
  let position = 0n;
  await using log = await openQueueLog(directory, { replica: "parent", segmentBytes: 65_536 });

  for (let round = 0; round < rounds; round++) {
    let alive = names.length;
    const deaths = names.map(async (name) => {
      // By its own hand at a step, or from outside at any time, also while it starts.
      const isOwn = random.below(3) > 0;
      const dieAt = isOwn ? 1 + random.below(60) : 0;
      const killAfterMs = isOwn ? 30_000 : 20 + random.below(400);
      const args = [directory, path.join(root, name), name, String(dieAt)];
      assert.equal(await runReplica(context, args, killAfterMs), "SIGKILL");
      alive--;
    });
    while (alive > 0) {
      for (let count = random.below(8); count >= 0; count--) {
        const command = model.next();
        const refusedBefore = model.refused;
        model.apply(command);
        position = await log.propose(command);
        if (model.refused > refusedBefore) refused.push(position);
      }
      await pause(random.below(6));
    }
    await Promise.all(deaths);
  }

  for (const name of names) {
    const filePath = path.join(root, name);
    using replica = new FileReplica(filePath);
    const before = replica.applied.length;
    assert.ok(before > rounds, `${name} has hardly done anything: ${before} writes`);
    const told = new Set<string>(fs.readFileSync(`${filePath}.refused`, "utf8").split("\n"));
    const abort = new AbortController();
    const stopAtEnd = (reached: bigint): void => {
      if (reached === position) abort.abort();
    };
    stopAtEnd(replica.logPosition);
    await replicate(replica, log, {
      signal: abort.signal,
      onProgress: stopAtEnd,
      onRefused: (it) => told.add(String(it.position)),
    });
    const positions = replica.applied.map((it) => it.position);
    assert.ok(positions.every((at, index) => index === 0 || at > (positions[index - 1] ?? 0n)));
    const duplicates = replica.applied.reduce((sum, it) => sum + it.duplicates, 0);
    assert.equal(duplicates, model.duplicates, `${name} has applied something twice, or never`);
    const appended = replica.applied.flatMap((it) => it.messages);
    assert.equal(digestOf(appended), digestOf(model.appended), `${name} had other messages`);
    assert.equal(digestOf(replica.messages), digestOf(model.messages), `${name} has others`);
    assert.deepEqual(
      refused.filter((at) => !told.has(String(at))),
      [],
      `${name} was not told of a refusal`,
    );
  }
  context.diagnostic(`${position} commands, ${refused.length} of them refused`);
  context.diagnostic(`${model.messages.length} messages left, ${model.duplicates} again`);
});
