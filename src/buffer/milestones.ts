/**
 * Where it is worth deleting. A trim that deleted at once would leave a range tombstone each time,
 * and every read pays for each of them until RocksDB writes its memory to a table: 5 ms a read
 * after 10,000 small trims. So a trim only moves the mark, and rows go when it has passed the next
 * milestone: one for every 16 MiB appended.
 *
 *   rows         . . 7 . . | . . . 15 . . . | . . . 22 . . . | . .
 *   milestones             9               17               26
 *   trim 20  ->  deletes through 17; 18 to 20 are unreadable already, and go with 26
 *
 * How large the rows are that were there at opening is not known: they get sixteen milestones.
 */
const stepBytes = 16 * 1024 * 1024;
const stepsAtOpening = 16n;

export class Milestones {
  readonly #ids: bigint[] = [];
  #bytes = 0;

  constructor(trimmedId: bigint, lastId: bigint) {
    for (let step = 1n; step <= stepsAtOpening; step++) {
      const id = trimmedId + ((lastId - trimmedId) * step) / stepsAtOpening;
      if (id > (this.#ids.at(-1) ?? trimmedId)) this.#ids.push(id);
    }
  }

  appended(lastId: bigint, bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < stepBytes) return;
    this.#ids.push(lastId);
    this.#bytes = 0;
  }

  /** The newest milestone that a trim through this id has passed, once. */
  pass(throughId: bigint): bigint | undefined {
    const ahead = this.#ids.findIndex((id) => id > throughId);
    return this.#ids.splice(0, ahead === -1 ? this.#ids.length : ahead).at(-1);
  }
}
