/** Whether a loop allocates: passes of it, in a process that does nothing else. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import v8 from "node:v8";

export interface Pass {
  readonly grownBytes: number;
  readonly collections: number;
  readonly nsPerMessage: number;
}

const run = promisify(execFile);

/** In that process: carries `pass` out again and again, and prints what each one took. */
export async function printPasses(
  count: number,
  messages: number,
  pass: () => void,
  prepare: () => void = () => undefined,
): Promise<void> {
  let collections = 0;
  new PerformanceObserver((list) => {
    collections += list.getEntries().length;
  }).observe({ entryTypes: ["gc"] });
  for (let round = 0; round < count; round++) {
    prepare();
    // Compilers and the observer finish first.
    await pause(50);
    collections = 0;
    const before = v8.getHeapStatistics().used_heap_size;
    const startMs = performance.now();
    pass();
    const nsPerMessage = ((performance.now() - startMs) / messages) * 1e6;
    const grownBytes = v8.getHeapStatistics().used_heap_size - before;
    await pause(10);
    console.log(JSON.stringify({ grownBytes, collections, nsPerMessage } satisfies Pass));
  }
}

/**
 * In the test: runs the program. Compiling and measuring take some bytes in some passes; what each
 * message takes is in all of them.
 */
export async function assertNothingAllocated(
  program: string,
  values: readonly (string | number)[],
  bytesMax = 4096,
): Promise<readonly Pass[]> {
  const args = ["--conditions=source", program, ...values.map(String)];
  const { stdout } = await run(process.execPath, args);
  const lines = stdout.trim().split("\n");
  const passes = lines.map((line) => JSON.parse(line) as Pass);
  const isQuiet = ({ grownBytes, collections }: Pass): boolean =>
    grownBytes < bytesMax && collections === 0;
  assert.ok(passes.some(isQuiet), stdout);
  return passes;
}
