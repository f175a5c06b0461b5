/** What the tests of logging share: places for files, and the lines that are in them. */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

export interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly name: string;
  readonly text: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** The path of a file in a directory that goes with the test. */
export function makeLogPath(context: Pick<TestContext, "after">): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-logging-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, "test.log");
}

/** The lines of a file, each of which must be whole. */
export function readLog(file: string): LogLine[] {
  return parseLog(fs.readFileSync(file, "utf8"));
}

export function parseLog(content: string): LogLine[] {
  const lines = content.split("\n");
  assert.equal(lines.pop(), "", "the last line has its newline");
  return lines.map((line) => JSON.parse(line) as LogLine);
}

/** How many lines a line says were dropped before it; undefined where it is any other line. */
export function droppedOf(line: LogLine): number | undefined {
  return line.name === "gapless/logging" ? Number(line.fields?.["dropped"]) : undefined;
}

/**
 * Fails where the numbers of the lines do not count up from 0 to `count` - 1, but for those that a
 * line in their place says were dropped. Returns how many were.
 */
export function checkNumbers(lines: readonly LogLine[], count: number): number {
  let next = 0;
  let dropped = 0;
  for (const line of lines) {
    const missing = droppedOf(line);
    if (missing === undefined) {
      assert.equal(line.fields?.["number"], next, JSON.stringify(line));
      next++;
    } else {
      next += missing;
      dropped += missing;
    }
  }
  assert.equal(next, count);
  return dropped;
}
