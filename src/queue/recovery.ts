/**
 * What a crash left, and what to make of it.
 *
 * A killed process leaves at most one record that was never completed, at the very end: the page
 * cache keeps all that was stored. A power loss takes any subset of the pages that were not yet
 * durable, and so can leave holes with whole records behind them; none of those was acknowledged
 * as durable. Both are cleared, and appending goes on. Everything else is damage, and nobody
 * decides about that but the operator.
 *
 * Segments become durable in order. So it takes a look at the newest segment of which anything is
 * known to be durable, and at those after it: history does not make recovery longer.
 */
import { syncDirectory } from "../memory/mapping.ts";
import { headerBytes } from "./layout.ts";
import { Cursor, findRecordBehind, findResidueEnd } from "./record.ts";
import {
  durableBytes,
  isOfThisBoot,
  listSegments,
  openSegment,
  removeSegment,
  type Segment,
} from "./segment.ts";
import { segmentCorrupt } from "./storage-errors.ts";
import { Tail } from "./tail.ts";

export interface Recovered {
  /** The `prevId` of every segment, oldest first. */
  readonly prevIds: bigint[];
  /** The end of the last one; null where there is none. Everything before it is durable. */
  readonly tail: Tail | null;
}

/** @throws GaplessError STORAGE_CORRUPT; nothing has been changed then. */
export async function recover(directory: string): Promise<Recovered> {
  const prevIds = listSegments(directory);
  const segments = openUncertain(directory, prevIds);
  let tail: Tail | null = null;
  try {
    const ends: Tail[] = [];
    for (const [index, segment] of segments.entries()) {
      const findings = examine(segment, segments[index + 1]?.prevId ?? null);
      const verdict = judge(findings);
      if (verdict.kind === "corrupt") {
        throw segmentCorrupt(segment.filePath, segment.prevId, findings.end, verdict.reason);
      }
      ends.push(new Tail(segment, findings.end, findings.lastId));
      if (verdict.kind === "whole") continue;
      // Behind a hole nothing can be reached: the later segments go first, the newest of them
      // first, so that a crash in here leaves what this can recover once more.
      for (const later of segments.slice(index + 1).reverse()) {
        removeSegment(directory, later.prevId);
        prevIds.pop();
        syncDirectory(directory);
      }
      segment.memory.bytes.fill(0, findings.end, findings.residueEnd);
      break;
    }
    for (const end of ends) {
      const { mapping, memory } = end.segment;
      // What was cleared, in here or in a recovery that was killed, must not come back from the
      // disk behind records that are still to be written.
      if (!isOfThisBoot(end.segment)) await mapping.sync(0, memory.capacity);
      await end.sync();
      await end.seal();
    }
    tail = ends.at(-1) ?? null;
    return { prevIds, tail };
  } finally {
    for (const segment of segments) if (segment !== tail?.segment) segment.mapping.unmap();
  }
}

/** The last segment, and those before it back to the one of which something is durable. */
function openUncertain(directory: string, prevIds: readonly bigint[]): Segment[] {
  const segments: Segment[] = [];
  try {
    for (const prevId of prevIds.toReversed()) {
      const segment = openSegment(directory, prevId);
      segments.unshift(segment);
      if (durableBytes(segment) > headerBytes) break;
    }
    return segments;
  } catch (error) {
    for (const segment of segments) segment.mapping.unmap();
    throw error;
  }
}

/** What a segment holds. */
export interface Findings {
  /** Behind the last record that can be reached, and what is there instead of another one. */
  readonly end: number;
  readonly lastId: bigint;
  readonly instead: "nothing" | "damage";
  /** Where the bytes behind `end` that are not zero end; `end` where there are none. */
  readonly residueEnd: number;
  readonly recordBehind: boolean;
  /** Below this everything was durable. */
  readonly durable: number;
  /** Whether the last writer lived in the same boot, so that nothing can be lost but by damage. */
  readonly sameBoot: boolean;
  /** The id that the segment has to end with; null for the last segment. */
  readonly nextPrevId: bigint | null;
}

function examine(segment: Segment, nextPrevId: bigint | null): Findings {
  const { memory } = segment;
  const cursor = new Cursor(memory, headerBytes, segment.prevId);
  let found = cursor.look(true);
  while (found === "record") {
    cursor.advance();
    found = cursor.look(true);
  }
  const { offset: end, lastId } = cursor;
  const residueEnd = findResidueEnd(memory, end);
  return {
    end,
    lastId,
    instead: found,
    residueEnd,
    recordBehind: findRecordBehind(memory, lastId, end, residueEnd),
    durable: durableBytes(segment),
    sameBoot: isOfThisBoot(segment),
    nextPrevId,
  };
}

export type Verdict =
  /** Nothing is missing. */
  | { readonly kind: "whole" }
  /** What is behind the end was never acknowledged: clear it, later segments included. */
  | { readonly kind: "torn" }
  | { readonly kind: "corrupt"; readonly reason: string };

export function judge(findings: Findings): Verdict {
  const { end, lastId, durable, sameBoot, nextPrevId } = findings;
  const corrupt = (reason: string): Verdict => ({ kind: "corrupt", reason });

  if (end < durable) return corrupt(`records were durable through ${durable}`);
  if (nextPrevId !== null) {
    if (lastId === nextPrevId) return { kind: "whole" };
    const mismatch = `it ends with id=${lastId}, the next segment follows id=${nextPrevId}`;
    return sameBoot || lastId > nextPrevId ? corrupt(mismatch) : { kind: "torn" };
  }
  if (findings.residueEnd === end) return { kind: "whole" };
  if (!sameBoot) return { kind: "torn" };
  if (findings.instead === "damage") return corrupt("a record that was completed does not hold");
  if (findings.recordBehind) return corrupt("whole records lie behind one that is missing");
  return { kind: "torn" };
}
