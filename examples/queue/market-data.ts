/**
 * An exchange, as far as its market data goes: update n changes one level of its book, one update
 * each 5 milliseconds, whether anybody listens or not. And how the feed puts that into a queue.
 *
 *   delta       | update f64 | level f64 | quantity f64 |
 *   snapshot    | update f64 | quantity f64, of each level |
 */
export const updateIntervalMs = 5;
export const levels = 20;

/** Types of messages. */
export const messageType = { snapshot: 1, delta: 2 } as const;

export const deltaBytes = 24;
export const snapshotBytes = 8 + 8 * levels;

/** What there is to buy at each price; the index is the level. */
export type Book = number[];

/** Number of the newest update of the exchange. */
export function updateNow(): number {
  return Math.floor(Date.now() / updateIntervalMs);
}

/** The level that an update changes, and what it then holds. */
export function changeOf(update: number): { level: number; quantity: number } {
  const mixed = Math.imul(update | 0, 0x9e3779b1) >>> 8;
  return { level: update % levels, quantity: 1 + (mixed % 1000) };
}

/** The book of the exchange right after an update: each level is of the last that changed it. */
export function bookAfter(update: number): Book {
  const book = new Array<number>(levels).fill(0);
  for (let number = update - levels + 1; number <= update; number++) {
    const { level, quantity } = changeOf(number);
    book[level] = quantity;
  }
  return book;
}

/** Writes a delta into `view` at `offset`. */
export function encodeDelta(view: DataView, offset: number, update: number): void {
  const { level, quantity } = changeOf(update);
  view.setFloat64(offset, update, true);
  view.setFloat64(offset + 8, level, true);
  view.setFloat64(offset + 16, quantity, true);
}

/** Writes a snapshot into `view` at `offset`. */
export function encodeSnapshot(view: DataView, offset: number, update: number): void {
  view.setFloat64(offset, update, true);
  bookAfter(update).forEach((quantity, level) => {
    view.setFloat64(offset + 8 + 8 * level, quantity, true);
  });
}

/** The number of the update that a message of either type is about. */
export function updateOf(view: DataView, offset: number): number {
  return view.getFloat64(offset, true);
}

/** Applies a delta. */
export function applyDelta(book: Book, view: DataView, offset: number): void {
  book[view.getFloat64(offset + 8, true)] = view.getFloat64(offset + 16, true);
}

/** The book of a snapshot. */
export function decodeSnapshot(view: DataView, offset: number): Book {
  return Array.from({ length: levels }, (_quantity, level) =>
    view.getFloat64(offset + 8 + 8 * level, true),
  );
}
