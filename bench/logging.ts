/**
 * What a line of logging with two fields costs the thread that logs it, and how fast the sidecar
 * writes such lines. The reference is what a thread does that writes its lines itself: the same
 * JSON, a write to a file each. Both are measured in turns, round by round: what else the machine
 * does then meets both.
 */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { LogDrain } from "../src/logging/drain.ts";
import { makeLogMemory } from "../src/logging/layout.ts";
import { takeLogRing } from "../src/logging/ring.ts";
import { openLogSink } from "../src/logging/sink.ts";
import { openLogging } from "../src/logging/logging.ts";
import { figure, type Figure, type Size } from "./figure.ts";

/** They fit into the ring, so none is dropped: the sidecar is behind at the end of a round. */
const roundLines = 5000;
const text = "rolled over to the next segment";

export async function logging(size: Size): Promise<Figure[]> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-logging-"));
  const file = path.join(directory, "logged");
  const plain = path.join(directory, "plain");
  try {
    const rounds = size === "full" ? 100 : 2;
    const times = await measure(file, plain, rounds);
    const lines = rounds * roundLines;
    checkLines(file, plain, lines);
    return [
      figure("logging.info", lines / times.infoMs / 1000, "M msg/s", lines / times.plainMs / 1000, {
        ns: Math.round((times.infoMs * 1e6) / lines),
        median_ns: Math.round(times.medianNs),
      }),
      figure("logging.write", measureWriting(path.join(directory, "written"), rounds), "M msg/s"),
    ];
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

interface Times {
  /** In the calls of the thread that logs. */
  infoMs: number;
  /** Nanoseconds a line of the median round: without those that were interrupted. */
  medianNs: number;
  plainMs: number;
}

async function measure(file: string, plain: string, rounds: number): Promise<Times> {
  const times: Times = { infoMs: 0, medianNs: 0, plainMs: 0 };
  const fd = fs.openSync(plain, "a");
  const roundNs: number[] = [];
  try {
    await using opened = openLogging({ file, bytesMax: 2 ** 34 });
    const logger = opened.logger("bench");
    // The sidecar starts up meanwhile.
    await opened.flush();
    for (let round = 0; round < rounds; round++) {
      const first = round * roundLines;
      let startMs = performance.now();
      for (let number = first; number < first + roundLines; number++) {
        logger.info(text, { sequence: number, used: number / 7 });
      }
      const loggedMs = performance.now() - startMs;
      await opened.flush();
      times.infoMs += loggedMs;
      roundNs.push((loggedMs * 1e6) / roundLines);

      startMs = performance.now();
      for (let number = first; number < first + roundLines; number++) {
        fs.writeSync(fd, plainLine({ sequence: number, used: number / 7 }));
      }
      times.plainMs += performance.now() - startMs;
    }
  } finally {
    fs.closeSync(fd);
  }
  times.medianNs = roundNs.toSorted((a, b) => a - b)[roundNs.length >> 1] ?? NaN;
  return times;
}

/** Million lines a second from a ring to a file: what the sidecar can keep up with. */
function measureWriting(file: string, rounds: number): number {
  const memory = makeLogMemory(1, 2 ** 20);
  const ring = takeLogRing(memory);
  const sink = openLogSink({ file, bytesMax: 2 ** 34, filesMax: 1, stderr: false });
  const log = new LogDrain(memory, sink);
  const name = Buffer.from("bench");
  let writtenMs = 0;
  for (let round = 0; round < rounds; round++) {
    for (let number = 0; number < roundLines; number++) {
      ring?.write(1, name, text, { sequence: number, used: number / 7 });
    }
    const startMs = performance.now();
    while (log.drain(Infinity));
    writtenMs += performance.now() - startMs;
  }
  sink.close();
  return (rounds * roundLines) / writtenMs / 1000;
}

function plainLine(fields: object): string {
  const time = new Date().toISOString();
  return `${JSON.stringify({ time, level: "info", name: "bench", text, fields })}\n`;
}

/** Nothing was left out, and both have written the same but for the time. */
function checkLines(file: string, plain: string, count: number): void {
  const [logged, reference] = [file, plain].map((it) =>
    fs.readFileSync(it, "utf8").replaceAll(/"time":"[^"]*"/g, ""),
  );
  const lines = (logged?.split("\n").length ?? 0) - 1;
  if (lines !== count || logged !== reference)
    throw new Error(`Logged ${lines} of ${count} lines.`);
}
