/**
 * Child of mapping.test.ts: in each round, waits for all racers and then tries to create the
 * file of the round. Counts in the shared words: how many files it made, and how many of all
 * files it found half-made.
 */
import path from "node:path";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { futexWait, futexWake } from "../../../src/memory/futex.ts";
import { createMappedFile, mapFile } from "../../../src/memory/mapping.ts";
import { fileBytes, readyWord, rounds, tornWord, winsWord } from "./racing-words.ts";

const [directory = "", racers = "", threads = ""] = isMainThread
  ? process.argv.slice(2)
  : (workerData as string[]);

if (isMainThread && threads === "2") {
  new Worker(import.meta.filename, { workerData: [directory, racers] });
}

const deadlineMs = performance.now() + 5000;
const { address, buffer } = mapFile(path.join(directory, "words"), 4 * (rounds + 2));
const words = new Int32Array(buffer);
for (let round = 0; round < rounds; round++) {
  Atomics.add(words, readyWord, 1);
  futexWake(address);
  for (;;) {
    const ready = Atomics.load(words, readyWord);
    if (ready >= Number(racers) * (round + 1)) break;
    if (performance.now() > deadlineMs) throw new Error("Another racer does not come.");
    futexWait(address, ready, 100);
  }
  const filePath = path.join(directory, `file-${round}`);
  const created = createMappedFile(filePath, fileBytes, fill, { durable: false });
  if (created) Atomics.add(words, winsWord + round, 1);
  const found = mapFile(filePath, fileBytes);
  if (!new Uint8Array(found.buffer).every((byte) => byte === 1)) Atomics.add(words, tornWord, 1);
}

function fill(buffer: ArrayBuffer): void {
  new Uint8Array(buffer).fill(1);
}
