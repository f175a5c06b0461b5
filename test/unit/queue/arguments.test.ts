import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { isGaplessError, type ErrorCode } from "../../../src/errors.ts";
import {
  cleanupSegments,
  inspectQueue,
  openPublisher,
  openSubscriber,
  PassiveDiscovery,
  readLosses,
  removeReader,
  repairQueue,
  startRetention,
  verifyQueue,
  watchQueues,
} from "../../../src/queue/queue.ts";
import { makeFastDirectory } from "../../support/queue-records.ts";

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
