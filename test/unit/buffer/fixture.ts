/** What the tests of this room share: folders that go away, streams with skips, other processes. */
import { spawn, type ChildProcessByStdio } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { TestContext } from "node:test";
import {
  openMsgBuffer,
  type MsgBuffer,
  type RingBufferOptions,
  type StorageOptions,
} from "../../../src/buffer/buffer.ts";
import type { ColdOptions } from "../../../src/buffer/cold-protocol.ts";
import { GaplessError, type ErrorCode } from "../../../src/errors.ts";
import type { Archive } from "../../../src/flow/endpoints.ts";
import type { Message } from "../../../src/message.ts";

/** A folder of the test's own, removed after it. */
export function temporaryDirectory(context: TestContext): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-buffer-"));
  context.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A buffer of messages whose files are in this folder. */
export function openIn(
  directory: string,
  ringBuffer: RingBufferOptions = {},
  options: Partial<StorageOptions> = {},
): Promise<MsgBuffer> {
  const place = { dbPath: path.dirname(directory), cfName: path.basename(directory) };
  const storage = { ...place, ...options };
  return openMsgBuffer({ component: "trades", ringBuffer, storage });
}

/** The cold tier in this folder. */
export function coldIn(directory: string): ColdOptions {
  const writeBufferBytes = 64 * 1024 * 1024;
  return { directory, isCompressed: false, isSynced: true, writeBufferBytes };
}

/** The message behind `prevId`, recognizable by its id. */
export function makeMessage(id: bigint, prevId: bigint, bytes = 100): Message {
  const payload = new Uint8Array(bytes).fill(Number(id % 251n));
  return { id, prevId, timestampNs: id * 1000n, bytes: payload };
}

/** `count` messages behind `lastId`; with `skip`, ids go up by that much. */
export function makeMessages(lastId: bigint, count: number, bytes = 100, skip = 1n): Message[] {
  return Array.from({ length: count }, (_, index) => {
    const prevId = lastId + BigInt(index) * skip;
    return makeMessage(prevId + skip, prevId, bytes);
  });
}

/** Everything from `fromId` to the end, read `limit` at a time. */
export async function readAll(archive: Archive, fromId = 1n, limit = 1000): Promise<Message[]> {
  const bounds = await archive.bounds();
  const messages: Message[] = [];
  while (bounds !== null && fromId <= bounds.maxId) {
    messages.push(...(await archive.read(fromId, limit)));
    fromId = (messages.at(-1)?.id ?? fromId) + 1n;
  }
  return messages;
}

/** For `assert.rejects` and `assert.throws`. */
export function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof GaplessError && error.code === code) return true;
    throw new Error(`expected ${code}`, { cause: error });
  };
}

export interface Program {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  /** Lines that it has printed and nobody has taken, and those to come. */
  readonly lines: AsyncIterator<string, undefined>;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/** Runs a TypeScript file of this folder in a process of its own, killed with the test. */
export function runProgram(context: TestContext, file: string, ...args: string[]): Program {
  const child = spawn(
    process.execPath,
    ["--conditions=source", path.join(import.meta.dirname, file), ...args],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  context.after(() => child.kill("SIGKILL"));
  const exited = new Promise<Awaited<Program["exited"]>>((resolve) => {
    child.on("exit", (code, signal) => resolve({ code, signal }));
  });
  // A pipe to a process that was killed says so.
  child.stdin.on("error", () => undefined);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return { child, lines, exited };
}

/** The next line of a program; fails the test where it ended without one. */
export async function nextLine(program: Program): Promise<string> {
  const line: IteratorResult<string, undefined> = await program.lines.next();
  if (line.done === true) throw new Error("the program ended");
  return line.value;
}
