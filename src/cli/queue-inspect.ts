/** `gapless queue inspect`: all that the files of a queue say, segment by segment. */
import { Command } from "commander";
import { inspectQueue } from "../queue/inspect.ts";
import { formatJson } from "./json-text.ts";
import { formatQueue, formatSegments } from "./queue-table.ts";

/** Not all of it could be read. */
const exitDamaged = 1;

export function queueInspect(): Command {
  return new Command("inspect")
    .description("Show what the files of a queue say, segment by segment. Disturbs nobody.")
    .argument("<path>", "directory of the queue, or of a copy")
    .option("--json", "print it as one JSON object")
    .action((directory: string, flags: { readonly json?: boolean }) => {
      const snapshot = inspectQueue(directory);
      const lines = [...formatQueue(snapshot), "", ...formatSegments(snapshot.segments)];
      process.stdout.write(`${flags.json === true ? formatJson(snapshot, 2) : lines.join("\n")}\n`);
      if (snapshot.unreadable.length > 0) process.exitCode = exitDamaged;
    });
}
