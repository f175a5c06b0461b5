/** `gapless bus stat`: every channel, producer and consumer of a running bus, from outside. */
import { Command } from "commander";
import { judgeHealth } from "../bus/health.ts";
import type { BusSnapshot } from "../bus/inspect.ts";
import { openInspector } from "../bus/inspector.ts";
import { locateBus, withBusOptions, type BusFlags, type BusLocation } from "./bus-location.ts";
import { openScreen } from "./screen.ts";
import { formatBus } from "./stat-table.ts";
import { watch } from "./watch.ts";

interface StatFlags extends BusFlags {
  readonly watch?: boolean;
  readonly json?: boolean;
}

export function stat(): Command {
  const command = new Command("stat")
    .description("Show every channel, producer and consumer. Disturbs none of them.")
    .argument("[config]", "file with [channels], or a topology file for its run")
    .option("--watch", "look again each second, with rates, until Ctrl-C")
    .option("--json", "print what was seen as one JSON object; with --watch, one a line");
  return withBusOptions(command).action(show);
}

async function show(config: string | undefined, flags: StatFlags): Promise<void> {
  const location = locateBus(config, flags);
  using inspector = openInspector(location.directory);
  if (flags.watch !== true) {
    const snapshot = inspector.inspect();
    process.stdout.write(
      flags.json === true
        ? `${JSON.stringify(documentOf(location, snapshot), null, 2)}\n`
        : `${linesOf(location, snapshot).join("\n")}\n`,
    );
    return;
  }
  const screen = openScreen(process.stdout);
  let before: BusSnapshot | undefined;
  await watch(() => {
    const snapshot = inspector.inspect();
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify(documentOf(location, snapshot))}\n`);
    } else {
      screen.show(linesOf(location, snapshot, before));
    }
    before = snapshot;
  });
}

function linesOf(
  { directory, channels, health }: BusLocation,
  snapshot: BusSnapshot,
  before?: BusSnapshot,
): string[] {
  const isEmpty = snapshot.channels.length + snapshot.unreadable.length === 0;
  if (isEmpty && channels.length === 0) return [`There are no channels in ${directory}.`];
  return formatBus(snapshot, before, judgeHealth(snapshot, health), channels);
}

function documentOf({ directory, health }: BusLocation, snapshot: BusSnapshot): object {
  return { directory, health: judgeHealth(snapshot, health), ...snapshot };
}
