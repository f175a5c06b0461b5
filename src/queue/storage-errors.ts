/** What goes wrong with the files of a queue, in words that say what to do. */
import { GaplessError } from "../errors.ts";

/** Damage at `offset` of a segment. */
export function segmentDamaged(filePath: string, offset: number, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} is damaged: offset=${offset}, ${reason}. Restore the file from a copy. Without ` +
      "one, see with gapless queue verify what is left; a subscriber goes on behind the damage " +
      "with skip(), which is recorded as a loss.",
  );
}

/** What was appended to it since is nowhere that it could be read. */
export function segmentRemoved(filePath: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} was removed while it was written: what was appended to it is lost. Close this ` +
      "publisher, restore the directory from a copy, and open it again; without a copy, gapless " +
      "queue verify says what is left.",
  );
}
