/** `gapless queue`: what is to be known of a queue, and can be mended. One file a subcommand. */
import { Command } from "commander";
import { queueBench } from "./queue-bench.ts";
import { queueInspect } from "./queue-inspect.ts";
import { queueReaders } from "./queue-readers.ts";
import { queueRepair } from "./queue-repair.ts";
import { queueStat } from "./queue-stat.ts";
import { queueTail } from "./queue-tail.ts";
import { queueVerify } from "./queue-verify.ts";

export function queue(): Command {
  return new Command("queue")
    .description("Look at queues: live ones, copies, and what damage has left; mend them.")
    .addCommand(queueStat().exitOverride())
    .addCommand(queueInspect().exitOverride())
    .addCommand(queueReaders().exitOverride())
    .addCommand(queueTail().exitOverride())
    .addCommand(queueVerify().exitOverride())
    .addCommand(queueRepair().exitOverride())
    .addCommand(queueBench().exitOverride());
}
