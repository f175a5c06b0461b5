/** `gapless queue repair`: mends what is asked for by name, and says what that is before. */
import { Command } from "commander";
import type { RepairName } from "../queue/flaw.ts";
import { repairNames, repairQueue, type RepairStep } from "../queue/repair.ts";
import { verifyQueue } from "../queue/verify.ts";
import { formatJson } from "./json-text.ts";
import { formatRange } from "./queue-table.ts";
import { formatCount, wrap } from "./table.ts";

type RepairFlags = Readonly<Partial<Record<RepairName | "write" | "json", boolean>>>;

const whatItDoes = {
  header: "make lines of segment headers anew that do not hold",
  truncate: "end the log at the first damage of the last segment",
  index: "make indexes anew that have wrong entries",
  control: "make queue.control anew where it is damaged, missing or wrong",
} as const satisfies Record<RepairName, string>;

export function queueRepair(): Command {
  const command = new Command("repair")
    .description(
      "Say how a queue would be mended that nobody has open, and with --write do it. What is " +
        "changed is kept in damaged/ before, but for indexes, which hold nothing of their own; " +
        "what is lost is recorded. Without a name, it says which of them would help.",
    )
    .argument("<path>", "directory of the queue, or of a copy");
  for (const name of repairNames) command.option(`--${name}`, whatItDoes[name]);
  return command
    .option("--write", "do it")
    .option("--json", "print the steps as one JSON object")
    .action(repair);
}

async function repair(directory: string, flags: RepairFlags): Promise<void> {
  const repairs = repairNames.filter((name) => flags[name] === true);
  if (repairs.length === 0) return advise(directory, flags.json === true);
  const write = flags.write === true;
  const verb = write ? "now  " : "would";
  const onStep = (step: RepairStep): void => {
    if (flags.json !== true) process.stdout.write(`${formatStep(verb, step).join("\n")}\n`);
  };
  const report = repairQueue(directory, { repairs, write, onStep });
  if (flags.json === true) {
    process.stdout.write(`${formatJson(report, 2)}\n`);
    return;
  }
  const done = write ? "This was done." : "Nothing was changed: --write does it.";
  process.stdout.write(`${report.steps.length === 0 ? "There is nothing to mend." : done}\n`);
}

function formatStep(
  verb: string,
  { repair: name, file, what, lost, ...step }: RepairStep,
): string[] {
  const { wholeLost = 0, kept } = step;
  const whole =
    wholeLost === 0 ? "" : `; ${formatCount(wholeLost)} of them whole, behind the damage`;
  const losing = lost === undefined ? "" : ` Lost: ${formatRange(lost.from, lost.to)}${whole}.`;
  const keeping = kept === undefined ? "" : ` The file as it is is kept as ${kept}.`;
  return wrap(`${verb}  ${name}  ${file}: ${what}.${losing}${keeping}`, "");
}

/** What is left to do about damage that no repair mends. */
function withoutRepair(file: string): string {
  const reader = /^readers\/(.+)\.reader$/.exec(file)?.[1];
  return reader === undefined
    ? "Only a copy mends that; readers go on behind it with skipUnreadable()"
    : "Only a copy mends that. Without one, gapless queue readers --remove " +
        `${reader} forgets the reader, which then begins as a new one`;
}

/** Which repairs would help, and what none of them does. */
async function advise(directory: string, isJson: boolean): Promise<void> {
  const { findings } = await verifyQueue(directory);
  const useful = repairNames.filter((name) => findings.some(({ repair: one }) => one === name));
  const rest = findings.filter(({ severity, repair: one }) => severity === "damage" && !one);
  if (isJson) {
    process.stdout.write(`${formatJson({ useful, withoutRepair: rest }, 2)}\n`);
    return;
  }
  const lines = [
    ...useful.map((name) => `--${name.padEnd(8)}  ${whatItDoes[name]}`),
    ...rest.flatMap(({ file, what }) => wrap(`${file}: ${what}. ${withoutRepair(file)}`, "")),
  ];
  process.stdout.write(`${lines.length === 0 ? "There is nothing to mend." : lines.join("\n")}\n`);
}
