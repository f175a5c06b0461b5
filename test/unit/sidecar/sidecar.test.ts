import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { GaplessError } from "../../../src/errors.ts";
import {
  siblingModule,
  startSidecar,
  type Sidecar,
  type SidecarOptions,
} from "../../../src/sidecar/sidecar.ts";
import type { Echo, Task } from "./sidecar-worker.ts";

const module = siblingModule("sidecar-worker", import.meta.url);

interface Started {
  readonly sidecar: Sidecar<Task, Echo>;
  readonly failures: GaplessError[];
}

function start(context: TestContext, options: Partial<SidecarOptions<Echo>> = {}): Started {
  const failures: GaplessError[] = [];
  const onFailure = (error: GaplessError): void => void failures.push(error);
  const sidecar = startSidecar<Task, Echo>(module, "data", {
    name: "test",
    requestsMax: 4,
    onFailure,
    ...options,
  });
  context.after(() => sidecar.close());
  return { sidecar, failures };
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, "this takes too long");
    await pause(2);
  }
}

/** Takes a reply as a thread does that never lets an event come. */
function takeSpinning(sidecar: Sidecar<Task, Echo>): Echo {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const reply = sidecar.take();
    if (reply !== undefined) return reply;
    assert.ok(performance.now() < deadlineMs, "this takes too long");
  }
}

function temporaryFile(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-sidecar-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, "notes");
}

test("replies come in order, to a thread that spins and to one that turns", async (context) => {
  const { sidecar, failures } = start(context);
  for (const number of [1, 2, 3]) assert.equal(sidecar.post({ kind: "echo", number }), true);
  for (const number of [1, 2, 3]) {
    assert.deepEqual(takeSpinning(sidecar), { number, data: "data" });
  }
  assert.equal(sidecar.pending, 0);

  sidecar.post({ kind: "echo", number: 4 });
  await pause(50);
  assert.equal(sidecar.pending, 1, "it was not taken");
  assert.equal(takeSpinning(sidecar).number, 4);

  const told: number[] = [];
  const { sidecar: telling } = start(context, { onReply: ({ number }) => told.push(number) });
  for (const number of [1, 2, 3]) telling.post({ kind: "echo", number });
  await until(() => telling.pending === 0);
  assert.deepEqual(told, [1, 2, 3]);
  assert.deepEqual(failures, []);
});

test("news comes as replies do, and completes no request", async (context) => {
  const told: number[] = [];
  const { sidecar } = start(context, {
    onReply({ number }) {
      told.push(number);
      if (number < 2) assert.equal(sidecar.pending, 1);
    },
  });
  sidecar.post({ kind: "count", number: 2 });
  await until(() => sidecar.pending === 0);
  assert.deepEqual(told, [0, 1, 2]);
});

test("a full queue refuses, and takes again once something is done", async (context) => {
  const { sidecar } = start(context, { requestsMax: 3 });
  const word = new Int32Array(new SharedArrayBuffer(4));
  assert.equal(sidecar.post({ kind: "block", word }), true);
  assert.equal(sidecar.post({ kind: "wait", ms: 0 }), true);
  assert.equal(sidecar.post({ kind: "echo", number: 1 }), true);
  assert.equal(sidecar.post({ kind: "echo", number: 2 }), false);
  assert.equal(sidecar.pending, 3);
  Atomics.store(word, 0, 1);
  Atomics.notify(word, 0);
  await until(() => sidecar.pending === 1);
  assert.equal(sidecar.post({ kind: "echo", number: 3 }), true);
  assert.deepEqual([takeSpinning(sidecar).number, takeSpinning(sidecar).number], [1, 3]);
});

test("a thread that only spins sees that requests without a reply are done", (context) => {
  const { sidecar } = start(context);
  sidecar.post({ kind: "wait", ms: 1 });
  const deadlineMs = performance.now() + 30_000;
  while (sidecar.pending > 0) assert.ok(performance.now() < deadlineMs);
});

test("a request that throws is told with code and text, and the next is served", (context) => {
  const { sidecar, failures } = start(context);
  sidecar.post({ kind: "fail", with: "disk" });
  sidecar.post({ kind: "fail", with: "bug" });
  sidecar.post({ kind: "echo", number: 1 });
  assert.equal(takeSpinning(sidecar).number, 1);
  const [disk, bug, ...more] = failures;
  assert.deepEqual([disk?.code, disk?.advice], ["STORAGE_FULL", "repair"]);
  assert.equal(disk?.message, "The thread test failed: No room in /somewhere.");
  assert.equal(bug?.code, "SYSTEM_CALL_FAILED");
  assert.match(bug.message, /out of luck/);
  assert.match(String(bug.cause), /sidecar-worker\.ts/, "where it happened");
  assert.deepEqual(more, []);
});

test("a failure that nobody asked to be told of is a warning of the process", async (context) => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on("warning", onWarning);
  context.after(() => process.off("warning", onWarning));
  await using sidecar = startSidecar<Task>(module, "data", { name: "test", requestsMax: 1 });
  sidecar.post({ kind: "fail", with: "disk" });
  await until(() => warnings.length > 0);
  assert.match(warnings[0]?.message ?? "", /No room in \/somewhere/);
});

test("what cannot be handed over is told, and never thrown at the hot thread", (context) => {
  const { sidecar, failures } = start(context);
  const uncloneable = { kind: "echo", number: () => 1 } as unknown as Task;
  assert.equal(sidecar.post(uncloneable), true);
  assert.deepEqual([failures.length, sidecar.pending], [1, 0]);
  sidecar.post({ kind: "echo", number: 1 });
  assert.equal(takeSpinning(sidecar).number, 1);
});

for (const by of ["exit", "throw", "heap"] as const) {
  test(`a thread that died by ${by} is started again by the next request`, async (context) => {
    const { sidecar, failures } = start(context);
    sidecar.post({ kind: "echo", number: 1 });
    sidecar.post({ kind: "die", by });
    sidecar.post({ kind: "echo", number: 2 });
    await until(() => failures.length > 0);
    assert.equal(failures[0]?.code, "PEER_UNAVAILABLE");
    assert.equal(failures[0].advice, "retry");
    assert.match(failures[0].message, /2 requests not done/);
    assert.equal(sidecar.pending, 1, "a reply from before its death can be taken");
    assert.equal(sidecar.post({ kind: "echo", number: 3 }), true);
    assert.deepEqual([takeSpinning(sidecar).number, takeSpinning(sidecar).number], [1, 3]);
    assert.equal(failures.length, 1);
  });
}

test("a thread that spins starts it again without an event telling of the death", (context) => {
  const { sidecar, failures } = start(context, { requestsMax: 2 });
  sidecar.post({ kind: "echo", number: 1 });
  takeSpinning(sidecar);
  sidecar.post({ kind: "die", by: "exit" });
  const deadlineMs = performance.now() + 30_000;
  // The first ones may get to the thread that is dying: they are lost with it, and told as such.
  while (failures.length === 0) {
    assert.ok(performance.now() < deadlineMs);
    sidecar.post({ kind: "echo", number: 2 });
  }
  assert.equal(takeSpinning(sidecar).number, 2);
  assert.equal(failures.length, 1);
});

test("a module that cannot be loaded is not started again at every request", async (context) => {
  const failures: GaplessError[] = [];
  const missing = new URL("./there-is-no-such-file.ts", import.meta.url);
  const onFailure = (error: GaplessError): void => void failures.push(error);
  const options = { name: "test", requestsMax: 1, onFailure };
  const sidecar = startSidecar<Task>(missing, undefined, options);
  context.after(() => sidecar.close());
  assert.equal(sidecar.post({ kind: "wait", ms: 0 }), true);
  await until(() => failures.length > 0);
  assert.match(failures[0]?.message ?? "", /there-is-no-such-file/);
  assert.equal(sidecar.post({ kind: "wait", ms: 0 }), false, "not at once");
  await until(() => sidecar.post({ kind: "wait", ms: 0 }));
  await until(() => failures.length > 1);
});

test("closing waits for what was asked, and refuses what comes later", async (context) => {
  const file = temporaryFile(context);
  process.env["SIDECAR_TEST_CLOSED"] = file;
  context.after(() => delete process.env["SIDECAR_TEST_CLOSED"]);
  const { sidecar, failures } = start(context);
  sidecar.post({ kind: "wait", ms: 50 });
  sidecar.post({ kind: "linger" });
  sidecar.post({ kind: "note", file, text: "noted " });
  sidecar.post({ kind: "echo", number: 1 });
  const closings = [sidecar.close(), sidecar.close(), sidecar[Symbol.asyncDispose]()];
  assert.equal(sidecar.post({ kind: "wait", ms: 0 }), false);
  await Promise.all(closings);
  assert.equal(fs.readFileSync(file, "utf8"), "noted closed");
  assert.equal(sidecar.take()?.number, 1);
  assert.equal(sidecar.take(), undefined);
  assert.deepEqual([sidecar.pending, failures], [0, []]);
});

test("closing one that died, or was never asked anything, is quick", async (context) => {
  const { sidecar: unused } = start(context);
  await unused.close();
  assert.equal(unused.post({ kind: "wait", ms: 0 }), false);

  const { sidecar, failures } = start(context);
  sidecar.post({ kind: "die", by: "exit" });
  await sidecar.close();
  assert.match(failures[0]?.message ?? "", /1 requests not done: exit code 3/);
});

for (const how of ["idle", "exit"]) {
  test(`a process ends (${how}) while its sidecar has nothing to do`, async (context) => {
    const program = path.join(import.meta.dirname, "sidecar-idler.ts");
    const child = spawn(process.execPath, ["--conditions=source", program, how], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 30_000,
    });
    context.after(() => child.kill("SIGKILL"));
    const ended = new Promise((resolve) => child.on("exit", (...how) => resolve(how)));
    assert.equal(await text(child.stdout), "reply 1\n");
    assert.deepEqual(await ended, [0, null]);
  });
}
