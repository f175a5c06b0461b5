/** Directories for passes: what one has written is gone before the next one begins. */
import fs from "node:fs";
import path from "node:path";
import type { Publisher } from "gapless/queue";
import { syncDirectory } from "../../src/memory/sync-files.ts";

/** Works in a new directory below `root`, and removes it, on the device as well. */
export async function inScratch<Outcome>(
  root: string,
  work: (directory: string) => Outcome | Promise<Outcome>,
): Promise<Outcome> {
  const directory = fs.mkdtempSync(path.join(root, "gapless-bench-queue-"));
  try {
    return await work(directory);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
    syncDirectory(root);
  }
}

/** Closes a publisher whose files are gone, so that they are not taken to the disk first. */
export async function abandon(publisher: Publisher): Promise<void> {
  // The worker may be about to make a segment there.
  fs.rmSync(publisher.directory, { recursive: true, force: true, maxRetries: 10 });
  await publisher.close().catch(() => undefined);
}
