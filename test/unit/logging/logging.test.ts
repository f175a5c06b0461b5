import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { GaplessError, isGaplessError } from "../../../src/errors.ts";
import { drainer, logWord } from "../../../src/logging/layout.ts";
import {
  joinLogging,
  openLogging,
  type Logging,
  type LoggingOptions,
} from "../../../src/logging/logging.ts";
import { mountTinyDisk, tinyDiskRefused } from "../../support/tiny-disk.ts";
import { checkNumbers, droppedOf, makeLogPath, parseLog, readLog } from "./log-scratch.ts";
import type { LoggingTask } from "./logging-thread.ts";

function open(context: Pick<TestContext, "after">, options: LoggingOptions): Logging {
  const logging = openLogging(options);
  context.after(() => logging.close().catch(() => undefined));
  return logging;
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, "this takes too long");
    await pause(2);
  }
}

async function runThread(logging: Logging, task: Omit<LoggingTask, "handle">): Promise<void> {
  const data: LoggingTask = { ...task, handle: logging.share() };
  const url = new URL("./logging-thread.ts", import.meta.url);
  const worker = new Worker(url, { workerData: data });
  const errors: unknown[] = [];
  worker.on("error", (error) => errors.push(error));
  await new Promise((resolve) => worker.on("exit", resolve));
  assert.equal(errors.length, task.ending === "throw" ? 1 : 0, String(errors[0]));
}

test("what was logged is in the file when flush resolves, and when close does", async (context) => {
  const file = path.join(path.dirname(makeLogPath(context)), "folder", "test.log");
  const logging = open(context, { file, level: "debug" });
  const logger = logging.logger("orders");
  logger.debug("begun");
  logger.info("rolled over", { segment: 12, sequence: 7n });
  logger.warn("nearly full", { used: 0.9, isFull: false });
  logger.error("full");
  await logging.flush();
  const flushed = readLog(file).map((line) => ({ ...line, time: "now" }));
  assert.deepEqual(flushed, [
    { time: "now", level: "debug", name: "orders", text: "begun" },
    {
      time: "now",
      level: "info",
      name: "orders",
      text: "rolled over",
      fields: { segment: 12, sequence: "7" },
    },
    {
      time: "now",
      level: "warn",
      name: "orders",
      text: "nearly full",
      fields: { used: 0.9, isFull: false },
    },
    { time: "now", level: "error", name: "orders", text: "full" },
  ]);
  logger.info("last");
  const shared = logging.share();
  await Promise.all([logging.close(), logging.close(), logging[Symbol.asyncDispose]()]);
  logger.info("after the end");
  assert.deepEqual(
    readLog(file).map(({ text }) => text),
    ["begun", "rolled over", "nearly full", "full", "last"],
  );
  await assert.rejects(logging.flush(), isClosed);
  assert.throws(() => joinLogging(shared), isClosed);
  assert.throws(() => logging.share(), isClosed);
});

test("a line comes to the file by itself, soon", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file });
  logging.logger("orders").info("first");
  await until(() => fs.statSync(file).size > 0);
  // The sidecar has nothing to do for so long that it looks as rarely as it ever does.
  await pause(300);
  const before = performance.now();
  logging.logger("orders").info("second");
  await until(() => readLog(file).length === 2);
  const tookMs = performance.now() - before;
  assert.ok(tookMs < 1000, `took ${tookMs} ms`);
});

test("lines below the level are not logged", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file, level: "warn" });
  const logger = logging.logger("orders");
  logger.debug("no");
  logger.info("no");
  logger.warn("yes");
  logger.error("yes");
  const levels = (["debug", "info", "warn", "error"] as const).map((it) => logger.isEnabled(it));
  assert.deepEqual(levels, [false, false, true, true]);
  await logging.close();
  assert.deepEqual(
    readLog(file).map(({ text }) => text),
    ["yes", "yes"],
  );
});

test("threads that log at once lose nothing, and each keeps its order", async (context) => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
  context.diagnostic(`SEED=${seed}`);
  const file = makeLogPath(context);
  const logging = open(context, { file, threadsMax: 6, ringBytes: 2 ** 23 });
  const lines = 20_000;
  const endings = ["close", "return", "exit", "throw"] as const;
  await Promise.all(
    endings.map((ending, index) =>
      runThread(logging, { name: ending, lines, seed: seed + index, ending }),
    ),
  );
  await logging.close();
  const logged = readLog(file);
  for (const ending of endings) {
    const own = logged.filter(({ name }) => name === ending);
    assert.equal(checkNumbers(own, lines), 0);
  }
  assert.equal(logged.length, endings.length * lines);
  const disorder = logged.filter(({ time }, index) => time < (logged[index - 1]?.time ?? ""));
  // Only where a thread was interrupted in the middle of a line.
  assert.ok(disorder.length < 100, `${disorder.length} lines are older than the one before`);
});

test("threads that come one after the other share the rings of those that left", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file, threadsMax: 2 });
  const endings = ["return", "throw", "exit", "close", "return"] as const;
  for (const [index, ending] of endings.entries()) {
    await runThread(logging, { name: `thread ${index}`, lines: 100, seed: index, ending });
    await logging.flush();
  }
  const taken = joinLogging(logging.share());
  assert.throws(() => joinLogging(logging.share()), /2 threads log already/);
  await taken.close();
  await logging.close();
  const logged = readLog(file);
  for (const index of endings.keys()) {
    checkNumbers(
      logged.filter(({ name }) => name === `thread ${index}`),
      100,
    );
  }
});

test("a burst that is larger than the ring leaves its number behind", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file, ringBytes: 8192 });
  const logger = logging.logger("orders");
  const lines = 50_000;
  for (let number = 0; number < lines; number++) logger.info("tick", { number });
  await logging.flush();
  logger.info("tick", { number: lines });
  await logging.close();
  const logged = readLog(file);
  const dropped = checkNumbers(logged, lines + 1);
  assert.ok(dropped > 0);
  const about = logged.filter((line) => droppedOf(line) !== undefined);
  assert.ok(about.every(({ level, fields }) => level === "warn" && fields?.["thread"] === 0));
});

test("a full file is put aside, and the oldest ones go", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file, bytesMax: 4096, filesMax: 3 });
  const logger = logging.logger("orders");
  for (let number = 0; number < 200; number++) {
    logger.info("tick", { number });
    if (number % 17 === 0) await logging.flush();
  }
  logger.info("x".repeat(5000), { number: 200 });
  logger.info("tick", { number: 201 });
  await logging.close();
  assert.deepEqual(fs.readdirSync(path.dirname(file)).sort(), [
    "test.log",
    "test.log.1",
    "test.log.2",
  ]);
  const [oldest = [], long = [], newest = []] = [`${file}.2`, `${file}.1`, file].map(readLog);
  assert.deepEqual([long.length, newest.length], [1, 1], "a line above the size is alone");
  assert.ok(fs.statSync(`${file}.2`).size <= 4096);
  const numbers = [...oldest, ...long, ...newest].map(({ fields }) => Number(fields?.["number"]));
  const first = numbers[0] ?? NaN;
  assert.ok(first > 0, "older lines are gone");
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => first + index),
  );
  assert.equal(numbers.at(-1), 201);
});

test("one file is kept where no more are wanted, and what is there is appended to", async (context) => {
  const file = makeLogPath(context);
  for (let run = 0; run < 3; run++) {
    await using logging = openLogging({ file, bytesMax: 4096, filesMax: 1 });
    const logger = logging.logger("orders");
    for (let number = 0; number < 15; number++) logger.info("tick", { number, run });
  }
  assert.deepEqual(fs.readdirSync(path.dirname(file)), ["test.log"]);
  assert.ok(fs.statSync(file).size <= 4096);
  const logged = readLog(file);
  assert.equal(logged.at(-1)?.fields?.["run"], 2);
  assert.ok(logged.length > 1 && logged.length < 45);
});

test("a file that another program renames or removes is begun anew", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file });
  const logger = logging.logger("orders");
  logger.info("first");
  await logging.flush();
  fs.renameSync(file, `${file}.old`);
  logger.info("second");
  await logging.flush();
  fs.rmSync(file);
  logger.info("third");
  await logging.close();
  assert.deepEqual(
    [`${file}.old`, file].map((it) => readLog(it).map(({ text }) => text)),
    [["first"], ["third"]],
  );
});

test(
  "lines wait while the disk is full, and come once there is room",
  { skip: tinyDiskRefused },
  async (context) => {
    const disk = mountTinyDisk(context, 64 * 1024);
    const file = path.join(disk, "test.log");
    const failures: GaplessError[] = [];
    const logging = openLogging({ file, onFailure: (error) => failures.push(error) });
    const logger = logging.logger("orders");
    const lines = 1000;
    for (let number = 0; number < lines; number++) logger.info("tick", { number });
    await assert.rejects(logging.flush(), (error) => isGaplessError(error, "STORAGE_FULL"));
    await assert.rejects(logging.flush(), (error) => isGaplessError(error, "STORAGE_FULL"));
    await until(() => failures.length > 0);
    assert.equal(failures[0]?.code, "STORAGE_FULL");
    assert.match(failures[0].message, /test\.log/);
    const { status } = await remount(disk, 1024 * 1024);
    assert.equal(status, 0);
    await logging.flush();
    await logging.close();
    assert.equal(checkNumbers(readLog(file), lines), 0);
    assert.equal(failures.length, 1, "told once");
  },
);

async function remount(directory: string, bytes: number): Promise<{ status: unknown }> {
  const child = spawn("mount", ["-o", `remount,size=${bytes}`, directory], { stdio: "inherit" });
  const [status] = (await once(child, "exit")) as unknown[];
  return { status };
}

test("lines outlive the thread that writes them, which is started again", async (context) => {
  const file = makeLogPath(context);
  const failures: GaplessError[] = [];
  const logging = open(context, { file, onFailure: (error) => failures.push(error) });
  const logger = logging.logger("orders");
  for (let number = 0; number < 100; number++) logger.info("tick", { number });
  await logging.flush();
  for (let number = 100; number < 200; number++) logger.info("tick", { number });
  await sidecarOf(logging).terminate();
  dieWhileDraining(logging);
  for (let number = 200; number < 300; number++) logger.info("tick", { number });
  await logging.flush();
  assert.equal(failures[0]?.code, "PEER_UNAVAILABLE");
  assert.equal(checkNumbers(readLog(file), 300), 0);
});

test("lines are written at the end where the thread that does it has died", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file, onFailure: () => undefined });
  const logger = logging.logger("orders");
  await logging.flush();
  const ended = sidecarOf(logging).terminate();
  for (let number = 0; number < 100; number++) logger.info("tick", { number });
  dieWhileDraining(logging);
  const startMs = performance.now();
  await Promise.all([ended, logging.close()]);
  assert.ok(performance.now() - startMs < 1500, "it does not wait for the dead");
  assert.equal(checkNumbers(readLog(file), 100), 0);
});

/** As if its thread, which is gone, had been in the middle of a pass. */
function dieWhileDraining(logging: Logging): void {
  new Int32Array(logging.share().memory)[logWord.drainer] = drainer.sidecar;
}

/** What no user can get at, and what can die nevertheless. */
function sidecarOf(logging: Logging): Worker {
  const opened = logging as unknown as { sidecar: { thread: { worker: Worker } } };
  return opened.sidecar.thread.worker;
}

test("closing with lines that cannot be written says so", async (context) => {
  const file = makeLogPath(context);
  const logging = open(context, { file });
  fs.rmSync(file);
  fs.mkdirSync(file);
  logging.logger("orders").info("lost");
  await assert.rejects(logging.close(), (error) => isGaplessError(error, "SYSTEM_CALL_FAILED"));
});

test("lines are handed to whoever takes them, and those that are too many are counted", async (context) => {
  const taken: string[] = [];
  const logging = open(context, { onLine: (line) => taken.push(line) });
  const logger = logging.logger("orders");
  logger.info("tick", { number: 0 });
  await until(() => taken.length === 1);
  // While this thread takes nothing, more than may be on their way.
  const lines = 60_000;
  const pillow = new Int32Array(new SharedArrayBuffer(4));
  for (let number = 1; number < lines; number++) {
    logger.info("tick", { number });
    if (number % 2000 === 0) Atomics.wait(pillow, 0, 0, 20);
  }
  await logging.close();
  const logged = parseLog(taken.map((line) => `${line}\n`).join(""));
  const dropped = checkNumbers(logged, lines);
  assert.ok(dropped > 0, "it cannot have taken all of them");
});

for (const [ending, status] of [
  ["exit", 7],
  ["throw", 1],
  ["reject", 1],
  ["end", 0],
  ["late", 0],
  ["thread", 7],
  ["joined", 7],
] as const) {
  test(`the last lines of a process are written (${ending})`, async (context) => {
    const file = makeLogPath(context);
    const { code } = await runProgram(context, file, ending, 2000);
    assert.equal(code, status);
    assert.equal(checkNumbers(readLog(file), 2000), 0);
  });
}

test("a process that is killed leaves lines without a gap, and all that were flushed", async (context) => {
  const file = makeLogPath(context);
  const { signal } = await runProgram(context, file, "killed", 2000);
  assert.equal(signal, "SIGKILL");
  // The kernel may have stopped in the middle of a line.
  const content = fs.readFileSync(file, "utf8");
  const logged = parseLog(content.slice(0, content.lastIndexOf("\n") + 1));
  assert.ok(logged.length > 2000);
  assert.equal(checkNumbers(logged, logged.length), 0);
});

test("a line that a kill has cut is not mixed with the next", async (context) => {
  const file = makeLogPath(context);
  fs.writeFileSync(file, '{"time":"2026-11-2');
  const logging = open(context, { file });
  logging.logger("orders").info("first");
  await logging.close();
  const [cut, line] = fs.readFileSync(file, "utf8").split("\n");
  assert.equal(cut, '{"time":"2026-11-2');
  assert.equal(parseLog(`${line}\n`)[0]?.text, "first");
});

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Runs it to its end, and kills it where it says that it is logging. */
async function runProgram(
  context: TestContext,
  file: string,
  ending: string,
  lines: number,
): Promise<Ended> {
  const program = path.join(import.meta.dirname, "logging-program.ts");
  const child = spawn(
    process.execPath,
    ["--conditions=source", program, file, ending, String(lines)],
    { stdio: ["ignore", "pipe", "ignore"], timeout: 60_000 },
  );
  context.after(() => child.kill("SIGKILL"));
  child.stdout.once("data", () => child.kill("SIGKILL"));
  const [code, signal] = (await once(child, "exit")) as [Ended["code"], Ended["signal"]];
  return { code, signal };
}

test("stderr gets the same lines", async (context) => {
  const module = import.meta.resolve("../../../src/logging/logging.ts");
  const program = `
    import { openLogging } from ${JSON.stringify(module)};
    const logging = openLogging({ stderr: true });
    logging.logger("orders").info("rolled over", { segment: 12 });
    await logging.close();
  `;
  const child = spawn(
    process.execPath,
    ["--conditions=source", "--input-type=module", "-e", program],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  context.after(() => child.kill("SIGKILL"));
  const [line, ...more] = parseLog((await child.stderr.toArray()).join(""));
  assert.deepEqual([line?.text, line?.fields], ["rolled over", { segment: 12 }]);
  assert.deepEqual(more, []);
});

test("bad options are told where they are made", (context) => {
  const file = makeLogPath(context);
  const bad: [unknown, RegExp][] = [
    [undefined, /expected an object/],
    [{}, /expected at least one of file, stderr and onLine/],
    [{ file: "" }, /file: expected the path of a file/],
    [{ file: path.dirname(file) }, /file: expected a file that can be written/],
    [{ file, level: "loud" }, /level: expected one of debug, info, warn, error/],
    [{ file, bytesMax: 100 }, /bytesMax: expected a whole number from 4096/],
    [{ file, filesMax: 0 }, /filesMax: expected a whole number from 1/],
    [{ file, ringBytes: 1.5 }, /ringBytes: expected a whole number/],
    [{ file, threadsMax: 1024, ringBytes: 2 ** 28 }, /2 GiB at most/],
    [{ file, overflow: "block" }, /overflow: expected "drop"/],
    [{ file, onLine: "stdout" }, /onLine: expected a function/],
    [{ file, rotate: true }, /unknown rotate/],
  ];
  for (const [options, message] of bad) {
    assert.throws(
      () => openLogging(options as LoggingOptions),
      (error) => isGaplessError(error, "CONFIG_INVALID") && message.test(error.message),
      String(message),
    );
  }
  const logging = open(context, { file });
  assert.throws(() => logging.logger(""), isConfigInvalid);
  assert.throws(() => joinLogging({} as ReturnType<Logging["share"]>), isConfigInvalid);
});

function isConfigInvalid(error: unknown): boolean {
  return isGaplessError(error, "CONFIG_INVALID");
}

function isClosed(error: unknown): boolean {
  return isGaplessError(error, "CLOSED");
}
