/** What the racing creators of mapping.test.ts share: one word each, and one a round. */
export const rounds = 40;
export const fileBytes = 16_384;

/** Racers that have come to the start, of all rounds together. */
export const readyWord = 0;
/** Files that were found half-made. */
export const tornWord = 1;
/** Creators who won, by round. */
export const winsWord = 2;
