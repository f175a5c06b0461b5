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
