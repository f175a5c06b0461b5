/** Holds the hot thread of a publisher to the system calls that docs/queue.md names. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import type { PublisherOptions } from "gapless/queue";
import { makeDirectory } from "../../support/queue-records.ts";

const page = fs.readFileSync(path.join(import.meta.dirname, "../../../docs/queue.md"), "utf8");
const worker = path.join(import.meta.dirname, "system-calls-worker.ts");
const run = promisify(execFile);

/** In a container that may not trace, it is there and fails. */
const canTrace = spawnSync("strace", ["-f", "-o", "/dev/null", "true"]).status === 0;
const skip = canTrace ? false : "needs strace (Debian: strace), and the right to trace";

const segmentBytes = 1024 * 1024;
/** 100,000 records of 136 bytes take more than twelve of such segments. */
const rollsLeast = 12;

interface Trace {
  /**
   * What the main thread called while it appended, a line each, without the engine's own: of each
   * batch, in which there is one roll at most.
   */
  readonly batches: readonly (readonly string[])[];
  readonly rolls: number;
}

/** Runs the worker, and returns what its main thread called between its marks. */
async function trace(t: TestContext, options: PublisherOptions, ...more: string[]): Promise<Trace> {
  const directory = makeDirectory(t);
  const queue = path.join(directory, "queue");
  const node = [process.execPath, "--conditions=source", worker, queue];
  const words = [...node, JSON.stringify({ segmentBytes, ...options }), ...more];
  // A file for each thread: in a common one, calls are interrupted by those of others.
  const output = ["-ff", "-o", path.join(directory, "trace")];
  const { stdout } = await run("strace", [...output, ...words], { timeout: 100_000 });
  const threads = fs
    .readdirSync(directory)
    .filter((name) => name.startsWith("trace."))
    .map((name) => fs.readFileSync(path.join(directory, name), "utf8"));
  const hot = threads.filter((text) => text.includes(`${queue}/begin`));
  assert.equal(hot.length, 1, "one thread appends");
  const stretches = (hot[0] ?? "").split(/^.*\/queue\/begin".*$/m).slice(1);
  assert.equal(stretches.length, 100);
  const isEngines = engineOf(threads.join("\n"));
  const batches = stretches.map((stretch) => {
    const [text = ""] = stretch.split(/^.*\/queue\/end".*$/m);
    return text.split("\n").filter((line) => line !== "" && !isEngines(line));
  });
  return { batches, rolls: Number(stdout) };
}

/** What V8 does for itself: memory of its heap, and its threads, with whom nobody else sleeps. */
function engineOf(all: string): (line: string) => boolean {
  const isOfFile = new Set<string>();
  for (const [, address = ""] of all.matchAll(/^mmap\(.*MAP_SHARED.* = (0x\w+)$/gm)) {
    isOfFile.add(address);
  }
  /** Files of processors that are open. */
  const opened = new Set<string>();
  return (line) => {
    const [, fd] = /^openat\(.*\/sys\/devices\/system\/cpu.* = (\d+)$/.exec(line) ?? [];
    if (fd !== undefined) opened.add(fd);
    const [, used] = /^(?:read|close)\((\d+)\b/.exec(line) ?? [];
    if (used !== undefined && opened.has(used)) {
      if (line.startsWith("close(")) opened.delete(used);
      return true;
    }
    const [, unmapped] = /^munmap\((0x\w+),/.exec(line) ?? [];
    if (unmapped !== undefined) return !isOfFile.has(unmapped);
    return enginePatterns.some((pattern) => pattern.test(line));
  };
}

const enginePatterns = [
  /^futex\(.*_PRIVATE/,
  /^mmap\(.*MAP_ANONYMOUS/,
  /^(madvise|mprotect|brk|getpid)\(/,
  // Its locks count processors and measure their clock, when one has to wait for the first time.
  /^sched_get\w+\(|\/sys\/devices\/system\/cpu|^clock_nanosleep\(/,
];

/** The names of the calls; of kin that libraries and processors choose from, one for all. */
function namesOf(calls: readonly string[]): string[] {
  return calls.map((line) => {
    const [name = line] = /^\w+/.exec(line) ?? [];
    return /stat(x|at)?$/.test(name) ? "stat" : name.replace(/^(open|link|unlink)at$/, "$1");
  });
}

/** The system calls that the page names in the row which begins with `what`. */
function namedFor(what: string): string[] {
  const [, section = ""] = page.split("\n## System calls\n");
  const [table = ""] = section.split(/^##/m);
  const row = table.split("\n").find((line) => line.startsWith(`| ${what} |`));
  assert.ok(row !== undefined, `docs/queue.md has no row for: ${what}`);
  return [...(row.split("|")[2] ?? "").matchAll(/`(\w+)`/g)].map(([, name = ""]) => name).sort();
}

/** The names, each once. */
function distinct(names: readonly string[]): string[] {
  return [...new Set(names)].sort();
}

test("an append makes no system call, and a roll none about files", { skip }, async (t) => {
  const { batches, rolls } = await trace(t, {});
  assert.ok(rolls >= rollsLeast, `${rolls} rolls`);
  assert.deepEqual(namedFor("`append`"), []);
  const rolled = batches.filter((calls) => calls.length > 0);
  // The worker may be late for a roll, on a machine that has much else to do.
  const ready = rolled.filter((calls) => namesOf(calls).every((name) => name === "write"));
  t.diagnostic(`${rolls} rolls, the worker was late for ${rolled.length - ready.length}`);
  assert.ok(ready.length >= rolls / 2, rolled.flat().join("\n"));
  assert.deepEqual(distinct(namesOf(ready.flat())), namedFor("roll"));
  // Events for another thread: nothing is written into a file.
  for (const line of ready.flat()) assert.match(line, /^write\(\d+, "\\1(\\0){7}", 8\)/);
  assert.ok(ready.every((calls) => calls.length <= 3));
  const all = [...namedFor("roll"), ...namedFor("roll that makes its segment itself")];
  for (const name of namesOf(rolled.flat())) assert.ok(all.includes(name), name);
});

test("what a roll calls without the worker is in the documents", { skip }, async (t) => {
  const { batches, rolls } = await trace(t, { preallocate: false });
  assert.ok(rolls >= rollsLeast, `${rolls} rolls`);
  const names = namesOf(batches.flat());
  const documented = namedFor("roll that makes its segment itself");
  const others = batches.flat().filter((line) => !documented.includes(namesOf([line])[0] ?? ""));
  assert.deepEqual(others, []);
  assert.deepEqual(distinct(names), documented);
  // All of them belong to a roll: each makes the same.
  for (const name of distinct(names)) {
    const count = names.filter((one) => one === name).length;
    assert.equal(count % rolls, 0, `${name}: ${count} in ${rolls} rolls`);
  }
  assert.equal(names.filter((name) => name === "link").length, rolls);
});

test("a roll of a queue with limits also lists its directory", { skip }, async (t) => {
  const { batches, rolls } = await trace(t, { maxSegments: 1000 });
  const listing = namedFor("with `maxBytes` or `maxSegments`");
  const rolled = batches.map(namesOf).filter((names) => names.length > 0);
  assert.equal(rolled.filter((names) => names.includes("getdents64")).length, rolls);
  const ready = rolled.filter((names) => !names.includes("link"));
  assert.ok(ready.length > 0);
  assert.deepEqual(distinct(ready.flat().filter((name) => name !== "write")), listing);
});

test("an append calls nothing but what wakes a reader that sleeps", { skip }, async (t) => {
  const { batches } = await trace(t, {}, "asleep");
  assert.deepEqual(namedFor("`append` where a reader sleeps"), ["futex"]);
  for (const calls of batches) {
    const wakes = calls.filter((line) => line.startsWith("futex("));
    assert.equal(wakes.length, 1, calls.join("\n"));
    assert.match(wakes[0] ?? "", /^futex\(0x\w+, FUTEX_WAKE, /);
  }
  assert.ok(batches.filter((calls) => calls.length === 1).length > batches.length / 2);
});
