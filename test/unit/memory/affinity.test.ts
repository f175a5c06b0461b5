import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { Worker } from "node:worker_threads";
import { isGaplessError } from "../../../src/errors.ts";
import { pinThread } from "../../../src/memory/affinity.ts";

function allowedCores(): string {
  const status = fs.readFileSync("/proc/self/status", "utf8");
  return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? "";
}

test("a pinned thread keeps to its core, and binds no other thread", async () => {
  const before = allowedCores();
  const [first = "", last = first] = before.split(/[-,]/).filter(Boolean);
  for (const core of new Set([first, last])) {
    const worker = new Worker(path.join(import.meta.dirname, "pinned-worker.ts"), {
      workerData: Number(core),
    });
    assert.deepEqual(await once(worker, "message"), [core]);
    await once(worker, "exit");
  }
  assert.equal(allowedCores(), before);
});

test("a core that does not exist is a mistake in the configuration", () => {
  const before = allowedCores();
  for (const core of [-1, 0.5, 1023, 1024, 1e9, NaN, Infinity]) {
    assert.throws(
      () => pinThread(core),
      (error) => isGaplessError(error, "CONFIG_INVALID") && error.message.includes(`core=${core}`),
    );
  }
  assert.equal(allowedCores(), before);
});
