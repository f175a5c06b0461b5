/** `gapless clean`: removes what dead processes have left in shared memory. */
import fs from "node:fs";
import { Command } from "commander";
import { findLeftovers, removeLeftover, type Leftover } from "../bus/leftovers.ts";
import { findDeadRuns, removeShm } from "../supervise/run-directory.ts";
import { locateBus, withBusOptions, type BusFlags } from "./bus-location.ts";

interface CleanFlags extends BusFlags {
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

export function clean(): Command {
  const command = new Command("clean")
    .description(
      "Remove channels that nobody has open and that hold nothing unread, half made ones, and " +
        "what runs that were killed have left. Call it while no service is starting.",
    )
    .argument("[config]", "file with [channels], or a topology file for its run")
    .option("--dry-run", "only say what would be removed")
    .option("--force", "also what holds unread messages, or cannot be read; never what is in use");
  return withBusOptions(command).action(removeUseless);
}

function removeUseless(config: string | undefined, flags: CleanFlags): void {
  const { directory } = locateBus(config, flags);
  const isNamed = config !== undefined || flags.directory !== undefined || flags.data !== undefined;
  const removes = flags.dryRun === true ? "would remove" : "removed";
  const say = (verb: string, what: string, why: string): void => {
    process.stdout.write(`${verb.padEnd(removes.length)}  ${what}: ${why}\n`);
  };
  let found = 0;
  for (const run of findDeadRuns().filter((one) => !isNamed || one === directory)) {
    found++;
    if (flags.dryRun !== true) removeShm(run);
    say(removes, run, "the run that it was of is dead");
  }
  for (const leftover of fs.existsSync(directory) ? findLeftovers(directory) : []) {
    found++;
    const isRemoved = mayRemove(leftover, flags.force === true);
    if (isRemoved && flags.dryRun !== true) removeLeftover(directory, leftover);
    say(isRemoved ? removes : "left", leftover.name, leftover.why);
  }
  if (found === 0) process.stdout.write(`There is nothing to remove in ${directory}.\n`);
}

function mayRemove({ verdict }: Leftover, isForced: boolean): boolean {
  return verdict === "useless" || (verdict === "unread" && isForced);
}
