/** Words in files of their own, and children that sleep on them or change them. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { createMappedFile, mapFile } from "../../../src/memory/mapping.ts";

/** Longer than any test may take: whoever waits so long was not woken. */
export const foreverMs = 300_000;

export interface SharedWord {
  readonly filePath: string;
  readonly address: bigint;
  readonly words: Int32Array;
  readonly index: 0;
  expected: number;
}

export function makeDirectory(context: Pick<TestContext, "after">): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-futex-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function makeWord(context: Pick<TestContext, "after">): SharedWord {
  const filePath = path.join(makeDirectory(context), "words");
  createMappedFile(filePath, 8, () => undefined, { durable: false });
  const { address, buffer } = mapFile(filePath, 8);
  return { filePath, address, words: new Int32Array(buffer), index: 0, expected: 0 };
}

export function start(
  context: Pick<TestContext, "after">,
  name: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): ChildProcess {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, name), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, ...environment },
  });
  context.after(() => child.kill("SIGKILL"));
  return child;
}

export async function firstLine(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout !== null);
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  return chunk.toString().trim();
}
