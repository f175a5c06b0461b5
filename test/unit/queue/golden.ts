/** The golden files of spec/vectors/queue, which other code than this made. */
import fs from "node:fs";
import path from "node:path";
import { identifySelf } from "../../../src/memory/process-identity.ts";
import { controlFileName } from "../../../src/queue/control.ts";
import { controlOffset, type ChecksumKind } from "../../../src/queue/layout.ts";

const folder = path.join(import.meta.dirname, "../../../spec/vectors/queue");

/** A record, as the JSON beside its segment has it. */
export interface GoldenRecord {
  readonly offset: number;
  readonly sum: number;
  readonly sequence: number;
  readonly timestampNs: string;
  readonly type: number;
  readonly epoch: number;
  readonly payloadBytes: number;
  readonly payload: string;
}

/** A segment, in the same way. */
export interface GoldenSegment {
  readonly bytes: number;
  readonly identity: string;
  readonly number: number;
  readonly checksum: ChecksumKind;
  readonly recordsStart: number;
  readonly beginning: { firstSequence: number; latestNs: string; epoch: number } | null;
  readonly ending: { lastSequence: number; latestNs: string; end: number } | null;
  readonly durable: number;
  readonly index: readonly { record: number; count: number; latestNs: string }[];
  readonly records: readonly GoldenRecord[];
  /** Behind the last record; not of one that is only reserved. */
  readonly end?: number;
}

/** The names of the files, by what they are called in a queue. */
export const goldenNames = fs
  .readdirSync(folder)
  .filter((name) => name.endsWith(".hex"))
  .map((name) => name.slice(0, -".hex".length));

export const goldenSegments = goldenNames
  .filter((name) => name.endsWith(".segment"))
  .map((name) => describedIn(name) as unknown as GoldenSegment);

/** What the JSON beside a golden file says. */
export function describedIn(name: string): Readonly<Record<string, unknown>> {
  const text = fs.readFileSync(path.join(folder, `${name}.json`), "utf8");
  return JSON.parse(text) as Record<string, unknown>;
}

export function goldenBytes(name: string): Buffer {
  const file = Buffer.alloc(describedIn(name)["bytes"] as number);
  for (const line of fs
    .readFileSync(path.join(folder, `${name}.hex`), "utf8")
    .trim()
    .split("\n")) {
    const [offset = "", hex = ""] = line.split(": ");
    file.write(hex.replaceAll(" ", ""), parseInt(offset, 16), "hex");
  }
  return file;
}

/**
 * Makes the golden queue in the directory. Its writer was killed in another boot, so it is as a
 * power loss leaves it; with `isOfThisBoot`, as a kill does.
 */
export function restoreGolden(directory: string, isOfThisBoot = false): void {
  for (const name of goldenNames) {
    const filePath = path.join(directory, name.endsWith(".reader") ? `readers/${name}` : name);
    fs.mkdirSync(path.dirname(filePath), { recursive: true });
    const bytes = goldenBytes(name);
    if (isOfThisBoot && name === controlFileName) {
      bytes.write(identifySelf().bootId, controlOffset.boot, "hex");
    }
    fs.writeFileSync(filePath, bytes);
  }
}

/** The payload of a golden record. */
export function payloadOf({ payload, payloadBytes }: GoldenRecord): Buffer {
  const bytes = Buffer.alloc(payloadBytes);
  bytes.write(payload, "hex");
  return bytes;
}
