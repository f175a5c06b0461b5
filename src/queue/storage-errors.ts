/** What goes wrong with the files of a queue, in words that say what to do. */
import { describeError, GaplessError } from "../errors.ts";

const noSpace = new Set(["ENOSPC", "EDQUOT"]);

/** Damage at `offset` of a segment. */
export function segmentDamaged(filePath: string, offset: number, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} is damaged: offset=${offset}, ${reason}. Restore the file from a copy. Without ` +
      "one, see with gapless queue verify what is left; a subscriber goes on behind the damage " +
      "with skip(), which is recorded as a loss.",
  );
}

/** The error for a failed file operation: a full disk has its own code, a bug stays what it is. */
export function storageFailed(what: string, error: unknown): Error {
  if (error instanceof GaplessError) return error;
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (code === undefined) return new Error(describeError(error), { cause: error });
  return noSpace.has(code)
    ? new GaplessError(
        "STORAGE_FULL",
        `No room: ${what}: ${describeError(error)}. Free space on its file system, then try again.`,
        { cause: error },
      )
    : new GaplessError("SYSTEM_CALL_FAILED", `${what}: ${describeError(error)}.`, {
        cause: error,
      });
}
