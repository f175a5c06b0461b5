/** `gapless queue stat`: how far a queue and its readers have come. */
import { Command } from "commander";
import { inspectQueue, type QueueSnapshot } from "../queue/inspect.ts";
import { formatJson } from "./json-text.ts";
import { formatQueue } from "./queue-table.ts";
import { openScreen } from "./screen.ts";
import { watch } from "./watch.ts";

/** Not all of it could be read. */
const exitDamaged = 1;

interface StatFlags {
  readonly watch?: boolean;
  readonly json?: boolean;
}

export function queueStat(): Command {
  return new Command("stat")
    .description(
      "Show how far a queue and its readers have come. Disturbs nobody. Exits with 1 where " +
        "not all of it can be read.",
    )
    .argument("<path>", "directory of the queue, or of a copy")
    .option("--watch", "look again each second, with rates, until Ctrl-C")
    .option("--json", "print what was seen as one JSON object; with --watch, one a line")
    .action(show);
}

async function show(directory: string, flags: StatFlags): Promise<void> {
  if (flags.watch !== true) {
    const snapshot = inspectQueue(directory);
    const text = flags.json === true ? formatJson(snapshot, 2) : formatQueue(snapshot).join("\n");
    process.stdout.write(`${text}\n`);
    if (snapshot.unreadable.length > 0) process.exitCode = exitDamaged;
    return;
  }
  const screen = openScreen(process.stdout);
  let before: QueueSnapshot | undefined;
  await watch(() => {
    const snapshot = inspectQueue(directory);
    if (flags.json === true) process.stdout.write(`${formatJson(snapshot)}\n`);
    else screen.show(formatQueue(snapshot, before));
    before = snapshot;
  });
}
