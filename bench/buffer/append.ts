/**
 * What does an append of 100 messages take?
 *
 *   buffer.append.100            until it survives power loss
 *   buffer.append.100.unsynced   until it survives the process
 *
 * In µs, the median. The reference is a plain write of the same bytes to a file, synced where the
 * append is, in turns with the appends: what else the device does then meets both.
 */
import fs from "node:fs";
import path from "node:path";
import { packMessages } from "../../src/message.ts";
import { figure, type Figure, type Size } from "../figure.ts";
import { percentilesOf } from "../samples.ts";
import { inScratch, makeMessages, openBench, timesOf } from "./stage.ts";

const batchMessages = 100;
const rounds = { full: 3000, small: 20 } as const satisfies Record<Size, number>;

export async function append(size: Size): Promise<Figure[]> {
  return [
    await measure("buffer.append.100", size, true),
    await measure("buffer.append.100.unsynced", size, false),
  ];
}

function measure(name: string, size: Size, sync: boolean): Promise<Figure> {
  return inScratch(async (directory) => {
    await using buffer = await openBench(path.join(directory, "buffer"), 10_000, { sync });
    const fd = fs.openSync(path.join(directory, "plain"), "w");
    const plain: number[] = [];
    const appends: number[] = [];
    for (let round = 0; round < rounds[size]; round++) {
      const batch = makeMessages(Number(buffer.lastId), batchMessages);
      appends.push(...(await timesOf(1, () => buffer.append(batch))));
      const packed = packMessages(batch);
      plain.push(
        ...(await timesOf(1, async () => {
          fs.writeSync(fd, packed);
          if (sync) fs.fdatasyncSync(fd);
        })),
      );
    }
    fs.closeSync(fd);
    const { p50, ...tail } = percentilesOf(appends);
    const reference = percentilesOf(plain);
    return figure(name, p50, "µs", reference.p50, {
      p50,
      ...tail,
      referenceP99: reference.p99,
      messagesPerSecond: Math.round((batchMessages / p50) * 1e6),
      durability: sync ? "power loss" : "process",
    });
  });
}
