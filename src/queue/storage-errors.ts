/** What goes wrong with the files of a queue, in words that say what to do. */
import { GaplessError, isGaplessError, storageFailed } from "../errors.ts";
import { controlMagic, readerMagic, segmentMagic } from "./layout.ts";

/** What is to be done about a file as a whole, by what it begins with. */
const remedies = new Map([
  [
    controlMagic,
    "Restore it from a copy; without one, gapless queue repair --control makes it anew from the " +
      "segments.",
  ],
  [
    segmentMagic,
    "Restore it from a copy; without one, gapless queue verify says what is left, and gapless " +
      "queue repair --header makes its header anew where its records are there.",
  ],
  [
    readerMagic,
    "Restore it from a copy; without one, gapless queue readers --remove forgets the reader, " +
      "which then begins as a new one.",
  ],
]);

/** The sentence to end an error with that is about a file which begins with `magic`. */
export function remedyOf(magic: string): string {
  return remedies.get(magic) ?? "Restore it from a copy.";
}

/** Damage that leaves nothing of a file, or none of what says whose it is. */
export function fileDamaged(filePath: string, magic: string, reason: string): GaplessError {
  const text = `${filePath} is damaged: ${reason}. ${remedyOf(magic)}`;
  return new GaplessError("STORAGE_CORRUPT", text);
}

/** The error for a file that cannot be mapped; of one that is cut off, with what is to be done. */
export function openingFailed(filePath: string, magic: string, error: unknown): Error {
  if (!isGaplessError(error, "STORAGE_CORRUPT")) return storageFailed(`opening ${filePath}`, error);
  const [reason = ""] = error.message.replace(`${filePath} `, "").split(". ");
  return new GaplessError("STORAGE_CORRUPT", `${filePath} ${reason}. ${remedyOf(magic)}`, {
    cause: error,
  });
}

/** Damage at `offset` of a segment. */
export function segmentDamaged(filePath: string, offset: number, reason: string): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `${filePath} is damaged: offset=${offset}, ${reason}. Restore the file from a copy. Without ` +
      "one, gapless queue verify says what is left, and which repair lets a publisher go on; a " +
      "subscriber goes on behind the damage with skipUnreadable(), which is recorded as a loss.",
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
