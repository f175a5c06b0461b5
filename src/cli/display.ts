/** Shows a run while it runs: a live table on a terminal, else a line a second. */
import readline from "node:readline";
import type { Kill } from "../supervise/chaos.ts";
import type { SupervisedService } from "../supervise/supervised-service.ts";
import type { RunWatcher } from "../supervise/supervisor.ts";
import { describeStages, doneOf, type Stage } from "./stages.ts";

const tableIntervalMs = 200;
const lineIntervalMs = 1000;

export interface Display extends RunWatcher, Disposable {
  note(text: string): void;
}

export function openDisplay(title: string): Display {
  const output = process.stdout;
  const isTerminal = output.isTTY;
  const intervalMs = isTerminal ? tableIntervalMs : lineIntervalMs;
  const startedMs = performance.now();
  let services: readonly SupervisedService[] = [];
  let upstream = new Map<string, string>();
  let before = new Map<string, bigint>();
  let lookedMs = startedMs;
  let shownLines = 0;
  let timer: NodeJS.Timeout | undefined;

  const look = (): Stage[] => {
    const now = performance.now();
    const samples = services.map(({ entry, state, progress, restarts }) => ({
      name: entry.name,
      state,
      progress,
      restarts,
    }));
    const stages = describeStages(samples, upstream, before, now - lookedMs);
    before = new Map(samples.map(({ name, progress }) => [name, doneOf(progress)]));
    lookedMs = now;
    return stages;
  };
  const elapsedSeconds = (): number => (performance.now() - startedMs) / 1000;
  const clear = (): void => {
    if (shownLines === 0) return;
    // What a terminal echoes of a Ctrl-C has moved the cursor along its line.
    readline.cursorTo(output, 0);
    readline.moveCursor(output, 0, -shownLines);
    readline.clearScreenDown(output);
    shownLines = 0;
  };
  const draw = (): void => {
    if (services.length === 0) return;
    const elapsed = `${elapsedSeconds().toFixed(0)} s`;
    if (!isTerminal) {
      output.write(`${elapsed.padStart(5)}  ${look().map(formatBrief).join("  ")}\n`);
      return;
    }
    const lines = [`${title}  ${elapsed}`, ...formatTable(look())];
    clear();
    output.write(`${lines.map((line) => line.slice(0, output.columns)).join("\n")}\n`);
    shownLines = lines.length;
  };
  const note = (text: string): void => {
    clear();
    output.write(`${text}\n`);
  };

  return {
    note,
    log: (service, text) => note(`${service}: ${text}`),
    // By the clock of the lines around it, and not as it was planned: that is behind the start.
    killed: ({ services: killed, side }: Kill, index) => {
      const who = side === undefined ? killed.join() : `side ${side} (${killed.join(", ")})`;
      note(`chaos: kill ${index + 1}: ${who} at ${elapsedSeconds().toFixed(2)} s`);
    },
    started(started) {
      services = started;
      upstream = new Map(
        started.flatMap(({ inputs, entry }) => inputs.map((source) => [entry.name, source])),
      );
      timer = setInterval(draw, intervalMs);
    },
    finished() {
      clearInterval(timer);
      draw();
      services = [];
      shownLines = 0;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

const columns = ["stage", "state", "done", "", "rate/s", "lag", "restarts", "gaps filled"] as const;
const widths = [18, 10, 12, 6, 10, 10, 9, 12];

function formatTable(stages: readonly Stage[]): string[] {
  const row = (cells: readonly string[]): string =>
    cells.map((cell, index) => pad(cell, widths[index] ?? 0, index > 1)).join(" ");
  return [
    row(columns),
    ...stages.map(
      (stage) =>
        row([
          stage.name,
          stage.state,
          formatCount(stage.done),
          stage.share === undefined ? "" : `${Math.floor(stage.share * 100)} %`,
          formatCount(BigInt(Math.round(stage.rate))),
          stage.lag === undefined ? "-" : formatCount(stage.lag),
          String(stage.restarts),
          formatCount(stage.gapsFilled),
        ]) + formatCounts(stage.counts),
    ),
  ];
}

function formatBrief(stage: Stage): string {
  const lag = stage.lag === undefined ? "" : ` lag ${formatCount(stage.lag)}`;
  const restarts = stage.restarts === 0 ? "" : ` restarts ${stage.restarts}`;
  const gaps = stage.gapsFilled === 0n ? "" : ` gaps ${formatCount(stage.gapsFilled)}`;
  const rate = formatCount(BigInt(Math.round(stage.rate)));
  return `${stage.name} ${formatCount(stage.done)} (${rate}/s${lag}${restarts}${gaps})`;
}

function formatCounts(counts: Readonly<Record<string, bigint>>): string {
  const shown = Object.entries(counts).filter(([, count]) => count > 0n);
  if (shown.length === 0) return "";
  return `  ${shown.map(([name, count]) => `${name} ${formatCount(count)}`).join(", ")}`;
}

/** 1234567 as 1,234,567. */
export function formatCount(count: bigint): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

function pad(text: string, width: number, right: boolean): string {
  return right ? text.padStart(width) : text.padEnd(width);
}
