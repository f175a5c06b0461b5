/**
 * The only gap arithmetic in the package.
 *
 * A message names its predecessor, so a reader that has delivered everything through `last` can
 * place any message without knowing which ids the application skips:
 *
 *   id     ... 7   8   12 ...          prevId(12) = 8: nothing is missing between 8 and 12
 *   last = 8   (8, prevId 7) duplicate   (12, prevId 8) next   (15, prevId 12) gap (8, 12]
 *
 * Ids begin above zero. `last = 0n` stands for "nothing yet", and the first message of a stream
 * has `prevId = 0n`.
 */
export interface Link {
  readonly id: bigint;
  readonly prevId: bigint;
}

/** Position of a reader that has delivered nothing. */
export const beginning = 0n;

/** Where a message stands behind what was delivered: see `follow`. */
export type Placement = "next" | "duplicate" | "gap" | "broken";

/**
 * Places a message behind `last`.
 *
 * - `next`: deliver it
 * - `duplicate`: already delivered, drop it
 * - `gap`: everything in `(last, link.prevId]` is missing and has to come from elsewhere first
 * - `broken`: the link skips over `last`, or does not go forward; the stream is not this one
 */
export function follow(last: bigint, link: Link): Placement {
  if (link.prevId >= link.id || link.prevId < beginning) return "broken";
  if (link.id <= last) return "duplicate";
  if (link.prevId === last) return "next";
  return link.prevId > last ? "gap" : "broken";
}
