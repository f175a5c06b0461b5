/** Lines on their way to whoever takes them as texts: no more than fit, and none lost unsaid. */
import { threadId } from "node:worker_threads";
import { systemClock } from "../clock.ts";
import { LogFormat } from "./format.ts";
import { logWord } from "./layout.ts";

/** So many may be on their way. */
const linesMax = 10_000;

/** Hands lines to the thread that takes them, or counts them as missed. */
export function handOver(
  words: Int32Array,
  lines: Buffer,
  tell: (texts: readonly string[]) => void,
): void {
  const texts = splitLines(lines);
  const waiting = (Atomics.load(words, logWord.handed) - Atomics.load(words, logWord.taken)) | 0;
  if (waiting > 0 && waiting + texts.length > linesMax) {
    Atomics.add(words, logWord.missed, texts.length);
    return;
  }
  const told = [...describeMissed(words), ...texts];
  Atomics.add(words, logWord.handed, told.length);
  tell(told);
}

/** Takes what was handed over. */
export function takeOver(
  words: Int32Array,
  texts: readonly string[],
  onLine: (line: string) => void,
): void {
  try {
    for (const text of texts) onLine(text);
  } finally {
    Atomics.add(words, logWord.taken, texts.length);
  }
}

/** The line that says how many are missing, where any are. */
export function describeMissed(words: Int32Array): string[] {
  const missed = Atomics.exchange(words, logWord.missed, 0);
  if (missed === 0) return [];
  const format = new LogFormat();
  format.appendDropped(missed, Number(systemClock.nowNs()), threadId);
  return splitLines(format.bytes.subarray(0, format.length));
}

/** The lines, each of which ends with a newline, without it. */
export function splitLines(lines: Buffer): string[] {
  const texts = lines.toString().split("\n");
  texts.pop();
  return texts;
}
