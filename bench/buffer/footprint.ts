/**
 * What does a message of 100 bytes cost beyond them?
 *
 *   buffer.memory   bytes a message in the ring, without its payload
 *   buffer.disk     bytes a message on disk, payload included, which cannot be compressed
 */
import fs from "node:fs";
import path from "node:path";
import { figure, type Figure, type Size } from "../figure.ts";
import { fillTo, inScratch, makeMessages, openBench, payloadBytes } from "./stage.ts";

const hotMessages = 10_000;
const diskMessages = { full: 1_000_000, small: 20_000 } as const satisfies Record<Size, number>;

export async function footprint(size: Size): Promise<Figure[]> {
  return [await memory(), await disk(diskMessages[size])];
}

function memory(): Promise<Figure> {
  return inScratch(async (directory) => {
    await using buffer = await openBench(directory, hotMessages, { sync: false });
    // One at a time is the worst for whatever keeps them together.
    for (let last = 0; last < hotMessages; last += 100) {
      await Promise.all(makeMessages(last, 100).map((message) => buffer.append([message])));
    }
    const { hot, hotBytes } = await buffer.stats();
    if (hot !== hotMessages) throw new Error(`hot=${hot}`);
    return figure("buffer.memory", hotBytes / hot - payloadBytes, "B/msg", undefined, { hot });
  });
}

function disk(messages: number): Promise<Figure> {
  return inScratch(async (directory) => {
    {
      await using buffer = await openBench(directory, 0, { sync: false });
      await fillTo(buffer, messages);
    }
    const files = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
    const bytes = files
      .filter((file) => file.isFile())
      .reduce(
        (sum, { parentPath, name }) => sum + fs.statSync(path.join(parentPath, name)).size,
        0,
      );
    return figure("buffer.disk", bytes / messages, "B/msg", undefined, { messages });
  });
}
