/** Where messages lie: the memory of a channel of the bus, or any other. */
export interface TlvMemory {
  readonly bytes: Uint8Array;
  /** Of the same bytes. */
  readonly view: DataView;
}

/** Where what is not yet wrapped around anything is. */
export const noMemory: TlvMemory = {
  bytes: new Uint8Array(0),
  view: new DataView(new ArrayBuffer(0)),
};

/** The memory of some bytes, such as a file's or a test's. */
export function memoryOf(bytes: Uint8Array): TlvMemory {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
}
