/**
 * The memory that the transformed code works on. It keeps a hash of its contents, and one of all
 * that each party has read: what a party does next depends on nothing else.
 */

/** 64 bits that a run can be told apart by from any other. */
export class Digest {
  low = 0;
  high = 0;

  fold(value: number): void {
    this.low = Math.imul(this.low ^ value, 0x9e3779b1);
    this.low ^= this.low >>> 15;
    this.high = Math.imul(this.high ^ value ^ (this.low >>> 3), 0x85ebca6b);
    this.high ^= this.high >>> 13;
  }
}

export class WatchedMemory {
  /** What has been read by the party whose turn it is. */
  reader = new Digest();
  low = 0;
  high = 0;
  private readonly buffer: ArrayBuffer;
  private readonly words: Int32Array;

  constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
  }

  /** Sets the contents back. */
  reset(contents: Int32Array): void {
    this.words.set(contents);
    this.low = 0;
    this.high = 0;
  }

  snapshot(): Int32Array {
    return this.words.slice();
  }

  get(array: Int32Array | Float64Array | Uint8Array, index: number): number | undefined {
    const value = array[index];
    if (value === undefined) return undefined;
    this.reader.fold(value | 0);
    if (array instanceof Float64Array) this.reader.fold(Math.floor(value / 2 ** 32));
    return value;
  }

  set(array: Int32Array | Float64Array, index: number, value: number): number {
    if (array.buffer !== this.buffer) return (array[index] = value);
    const first = (array.byteOffset + index * array.BYTES_PER_ELEMENT) / 4;
    this.forget(first);
    if (array.BYTES_PER_ELEMENT === 8) this.forget(first + 1);
    array[index] = value;
    this.forget(first);
    if (array.BYTES_PER_ELEMENT === 8) this.forget(first + 1);
    return value;
  }

  /** Copies whole words from `from` up to `to` of the source. */
  copyWords(
    target: Uint8Array,
    source: Uint8Array,
    offset: number,
    from: number,
    to: number,
  ): void {
    const into = new Int32Array(target.buffer, target.byteOffset + offset, source.length >>> 2);
    const out = new Int32Array(source.buffer, source.byteOffset, source.length >>> 2);
    for (let index = from; index < to; index++) this.set(into, index, this.get(out, index) ?? 0);
  }

  load(array: Int32Array, index: number): number {
    const value = array[index] ?? 0;
    this.reader.fold(value);
    return value;
  }

  store(array: Int32Array, index: number, value: number): number {
    this.set(array, index, value);
    return value;
  }

  add(array: Int32Array, index: number, value: number): number {
    const before = this.load(array, index);
    this.set(array, index, (before + value) | 0);
    return before;
  }

  compareExchange(array: Int32Array, index: number, expected: number, value: number): number {
    const before = this.load(array, index);
    if (before === expected) this.set(array, index, value);
    return before;
  }

  /** Takes a word out of the hash where it is in it, and puts it in where it is not. */
  private forget(word: number): void {
    const value = this.words[word] ?? 0;
    let mixed = Math.imul(value ^ Math.imul(word + 1, 0x27d4eb2f), 0x9e3779b1);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x85ebca6b);
    this.low ^= mixed ^ (mixed >>> 13);
    mixed = Math.imul(mixed ^ word, 0xc2b2ae35);
    this.high ^= mixed ^ (mixed >>> 16);
  }
}
