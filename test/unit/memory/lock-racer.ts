/**
 * Child of lock-file.test.ts: for each token that it is told, tries to take the lock over from the
 * holder with that token, says how that went, and keeps what it got until it is told "release".
 */
import readline from "node:readline";
import { isGaplessError } from "../../../src/errors.ts";
import { acquireLock } from "../../../src/memory/lock-file.ts";

const [lockPath = ""] = process.argv.slice(2);
let release: (() => void) | undefined;

process.stdout.write("ready\n");
for await (const line of readline.createInterface(process.stdin)) {
  if (line === "release") {
    release?.();
    release = undefined;
    process.stdout.write("released\n");
    continue;
  }
  try {
    release = acquireLock(lockPath, { mayReplace: ({ token }) => token === line });
    process.stdout.write("won\n");
  } catch (error) {
    if (!isGaplessError(error, "ALREADY_OPEN")) throw error;
    process.stdout.write("lost\n");
  }
}
