/** `gapless queue readers`: who reads a queue, and taking away who does not come back. */
import { Command } from "commander";
import { inspectQueue } from "../queue/inspect.ts";
import { removeReader } from "../queue/reader-removal.ts";
import { formatJson } from "./json-text.ts";
import { formatReadersAlone } from "./queue-table.ts";

/** Not all of the queue could be read. */
const exitDamaged = 1;

interface ReadersFlags {
  readonly remove?: string;
  readonly json?: boolean;
}

export function queueReaders(): Command {
  return new Command("readers")
    .description("Show who reads a queue, or has read it, and how far they are.")
    .argument("<path>", "directory of the queue, or of a copy")
    .option("--remove <name>", "forget where this reader is; not one that is open")
    .option("--json", "print them as one JSON array")
    .action(show);
}

function show(directory: string, { remove, json }: ReadersFlags): void {
  if (remove !== undefined) {
    removeReader(directory, remove);
    process.stdout.write(`removed  ${remove}\n`);
    return;
  }
  const snapshot = inspectQueue(directory);
  const text =
    json === true ? formatJson(snapshot.readers, 2) : formatReadersAlone(snapshot).join("\n");
  process.stdout.write(`${text}\n`);
  if (snapshot.unreadable.length > 0) process.exitCode = exitDamaged;
}
