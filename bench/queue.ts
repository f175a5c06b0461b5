/**
 * How fast is a queue, that of one process as well as that between processes?
 *
 *   queue.append.*   M msg/s into a queue: bench/queue/append.ts
 *   queue.read.*     M msg/s out of one: bench/queue/read.ts
 *   queue.fanin.4    M msg/s out of four at once, by time: bench/queue/fan-in.ts
 *   queue.ipc.256    µs from one process to another: bench/queue/ipc.ts
 *   queue.roll       µs of an append that goes over to the next segment: bench/queue/roll.ts
 *   queue.open.*     ms to open what is there: bench/queue/open.ts
 *   queue.sync.*     durable appends a second: bench/queue/sync.ts
 *
 * The reference is bench/reference/log.c: the same files and the same protocol, measured in turns
 * with ours in the same directory. All is on the disk of the system's temporary directory, but for
 * `queue.ipc`, which is in memory (/dev/shm). A pass writes 512 MiB at the most, which the kernel
 * keeps in memory without a word, and is removed before the next one begins: what is measured is
 * the queue, and not how fast the disk takes what was written before.
 */
import type { Figure, Size } from "./figure.ts";
import { append } from "./queue/append.ts";
import { gatherCrew } from "./queue/crew.ts";
import { fanIn } from "./queue/fan-in.ts";
import { ipc } from "./queue/ipc.ts";
import { open } from "./queue/open.ts";
import { read } from "./queue/read.ts";
import { roll } from "./queue/roll.ts";
import { sync } from "./queue/sync.ts";
import { buildReference } from "./reference/build.ts";

export async function queue(size: Size): Promise<Figure[]> {
  using reference = buildReference("log");
  await using crew = gatherCrew(size);
  const figures: Figure[] = [];
  for (const question of [append, read, fanIn, ipc, roll, open, sync]) {
    figures.push(...(await question(size, crew, reference)));
  }
  return figures;
}
