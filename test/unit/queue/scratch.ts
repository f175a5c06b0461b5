/** Places that the tests of the queue share. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

/** A directory that goes with the test. */
export function makeDirectory(context: TestContext, parent = os.tmpdir()): string {
  const directory = fs.mkdtempSync(path.join(parent, "gapless-queue-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const memoryFileSystem = "/dev/shm";

/**
 * The same for tests that open hundreds of queues and look at what the files hold, not at what a
 * disk does: in a file system without a disk that others may keep busy.
 */
export function makeFastDirectory(context: TestContext): string {
  return makeDirectory(context, fs.existsSync(memoryFileSystem) ? memoryFileSystem : os.tmpdir());
}
