import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Message } from "../../../src/message.ts";
import { seededRandom } from "../../../src/random.ts";
import { commandAt, openCommanded } from "./commands.ts";
import { nextLine, runProgram, temporaryDirectory } from "./fixture.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);

test("G3: killed at any moment, each command of a log has been applied once, or not at all", async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const directory = temporaryDirectory(t);
  let messages: Message[] = [];
  let lastId = 0n;
  let applied = 0n;
  for (let round = 0; round < 6; round++) {
    const program = runProgram(t, "commander.ts", directory, String(seed));
    let acknowledged = BigInt(await nextLine(program));
    await pause(random.below(150));
    program.child.kill("SIGKILL");
    for await (const line of { [Symbol.asyncIterator]: () => program.lines }) {
      acknowledged = BigInt(line);
    }
    await program.exited;

    await using buffer = await openCommanded(directory);
    const where = `SEED=${seed} round=${round}`;
    assert.ok(buffer.logPosition >= acknowledged, `${where}: ${buffer.logPosition}`);
    for (; applied < buffer.logPosition; applied++) {
      const command = commandAt(seed, applied + 1n, lastId);
      if (command.kind === "append") messages.push(...command.messages);
      else messages = messages.filter(({ id }) => id >= command.beforeId);
      lastId = messages.at(-1)?.id ?? lastId;
    }
    const minId = messages[0]?.id;
    assert.deepEqual([buffer.lastId, await buffer.minId()], [lastId, minId], where);
    if (minId !== undefined) {
      assert.deepEqual(await buffer.sync(minId, 1_000_000), messages, where);
    }
    assert.equal((await buffer.stats()).total, messages.length, where);
  }
  assert.ok(applied > 6n);
});
