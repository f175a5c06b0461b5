/** A real file system that is soon full: a tmpfs of its own, for tests of a full disk. */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

/** Why this process may not mount one; false where it may. For the `skip` of a test. */
export const tinyDiskRefused: string | false = tryMounting();

/** Mounts an empty disk of `bytes` bytes, until the test is over. */
export function mountTinyDisk(context: TestContext, bytes: number): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-tiny-disk-"));
  const refusal = mount(directory, bytes);
  context.after(() => {
    if (refusal === undefined) unmount(directory);
    fs.rmdirSync(directory);
  });
  if (refusal !== undefined) throw new Error(refusal);
  return directory;
}

function tryMounting(): string | false {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-tiny-disk-"));
  try {
    const refusal = mount(directory, 65_536);
    if (refusal !== undefined) return refusal;
    unmount(directory);
    return false;
  } finally {
    fs.rmdirSync(directory);
  }
}

function mount(directory: string, bytes: number): string | undefined {
  const options = ["-t", "tmpfs", "-o", `size=${bytes}`, "gapless-test", directory];
  const { status, stderr, error } = spawnSync("mount", options, { encoding: "utf8" });
  if (status === 0) return undefined;
  return `cannot mount a tmpfs: ${error?.message ?? stderr.trim()}`;
}

function unmount(directory: string): void {
  // Lazily: what is still open in there goes away with the process that holds it.
  spawnSync("umount", ["--lazy", directory]);
}
