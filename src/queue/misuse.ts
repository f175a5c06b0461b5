/** What the ends of a queue are asked that cannot be done, and what they say to that. */
import { GaplessError } from "../errors.ts";

/** A reading end that was given up. */
export function subscriberClosed(directory: string): GaplessError {
  return new GaplessError("CLOSED", `A subscriber of ${directory} is closed.`);
}

/** Its message is not taken yet: what it was delivered behind would be taken in its place. */
export function nestedPoll(whom: string): GaplessError {
  return invalid(
    `A handler polls ${whom} whose poll it was called by: its own message is not taken yet. ` +
      "Return from it, then poll again.",
  );
}

/** There is no message to take, or it is not the one any more that was peeked at. */
export function takenElsewhere(directory: string): GaplessError {
  return invalid(
    `A message of ${directory} is to be taken that nobody has peeked at, or that was taken ` +
      "meanwhile. Call peek() before, and let nobody else read what is a source of a fan-in: " +
      "remove it there, and add it again.",
  );
}

/** One claim at a time: whatever else is written would be written over it. */
export function claimOpen(directory: string): GaplessError {
  return new GaplessError(
    "CLAIM_OPEN",
    `The publisher of ${directory} has a claim that is neither committed nor aborted. Call ` +
      "commit() or abort() before anything else is claimed or appended.",
  );
}

/** There is nothing to commit. */
export function noClaim(directory: string): GaplessError {
  return invalid(
    `The publisher of ${directory} is told to commit, and has no claim: commit() ends a claim() ` +
      "that has returned an offset, once.",
  );
}

/** What was not taken cannot be dealt with. */
export function commitBeyond(directory: string, sequence: number, position: number): GaplessError {
  return invalid(
    `A subscriber of ${directory} is told to commit through sequence=${sequence}, and has taken ` +
      `${position - 1} at last. Commit what was taken.`,
  );
}

function invalid(text: string): GaplessError {
  return new GaplessError("INVALID_OPERATION", text);
}
