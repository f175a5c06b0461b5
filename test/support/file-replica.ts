/**
 * A durable target for `replicate`, in one file: what the buffer is to a replica, small enough to
 * be seen through. Each append or trim is one record, written in two steps, so that a kill can
 * tear it:
 *
 *   | size u32 | CRC-32 u32 | position u64 | duplicates u32 | is trim u32 | before u64 | messages |
 *
 * A torn record at the end is cut off at opening: its position is then the one before.
 */
import fs from "node:fs";
import { crc32 } from "node:zlib";
import type { ReplicaTarget } from "../../src/buffer/replicate.ts";
import { follow } from "../../src/chain.ts";
import { GaplessError } from "../../src/errors.ts";
import { packMessages, unpackMessages, type Message } from "../../src/message.ts";

const headerBytes = 32;

/** A change of the replica, as its file has it. */
export interface Applied {
  readonly position: bigint;
  readonly duplicates: number;
  /** undefined for an append. */
  readonly trimmedBefore: bigint | undefined;
  readonly messages: readonly Message[];
}

export class FileReplica implements ReplicaTarget, Disposable {
  logPosition = 0n;
  /** What is left, in chain order. */
  messages: Message[] = [];
  /** All changes since the file was made. */
  readonly applied: Applied[] = [];

  private readonly file: number;
  private readonly onStep: () => void;
  private end = 0;

  /** `onStep` is called where a kill makes a difference: around and between the writes. */
  constructor(filePath: string, onStep: () => void = () => undefined) {
    this.onStep = onStep;
    this.file = fs.openSync(filePath, fs.constants.O_RDWR | fs.constants.O_CREAT);
    const bytes = new Uint8Array(fs.readFileSync(this.file));
    for (let size = sizeAt(bytes, 0); size > 0; size = sizeAt(bytes, this.end)) {
      this.take(decode(bytes.subarray(this.end, this.end + size)));
      this.end += size;
    }
    fs.ftruncateSync(this.file, this.end);
  }

  async append(
    messages: readonly Message[],
    { logPosition: position }: { readonly logPosition: bigint },
  ): Promise<void> {
    const fresh: Message[] = [];
    for (const message of messages) {
      const last = fresh.at(-1)?.id ?? this.messages.at(-1)?.id ?? 0n;
      const placement = follow(last, message);
      if (placement === "next") fresh.push(message);
      else if (placement !== "duplicate") {
        throw new GaplessError("CHAIN_BROKEN", `id=${message.id} after ${last}: ${placement}.`);
      }
    }
    const duplicates = messages.length - fresh.length;
    await this.write({ position, duplicates, trimmedBefore: undefined, messages: fresh });
  }

  async trim(
    beforeId: bigint,
    { logPosition: position }: { readonly logPosition: bigint },
  ): Promise<void> {
    const newest = this.messages.at(-1)?.id ?? 0n;
    if (beforeId > newest + 1n) {
      throw new GaplessError("INVALID_OPERATION", `A trim before ${beforeId}, beyond ${newest}.`);
    }
    await this.write({ position, duplicates: 0, trimmedBefore: beforeId, messages: [] });
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.file);
  }

  private async write(applied: Applied): Promise<void> {
    const record = encode(applied);
    const half = record.length >>> 1;
    this.onStep();
    fs.writeSync(this.file, record, 0, half, this.end);
    this.onStep();
    fs.writeSync(this.file, record, half, record.length - half, this.end + half);
    this.onStep();
    await new Promise((resolve) => setImmediate(resolve));
    this.end += record.length;
    this.take(applied);
    this.onStep();
  }

  private take(applied: Applied): void {
    this.applied.push(applied);
    this.logPosition = applied.position;
    this.messages.push(...applied.messages);
    const { trimmedBefore } = applied;
    if (trimmedBefore === undefined) return;
    this.messages = this.messages.filter(({ id }) => id >= trimmedBefore);
  }
}

function encode({ position, duplicates, trimmedBefore, messages }: Applied): Uint8Array {
  const packed = packMessages(messages);
  const record = new Uint8Array(headerBytes + packed.length);
  const view = new DataView(record.buffer);
  view.setUint32(0, record.length, true);
  view.setBigUint64(8, position, true);
  view.setUint32(16, duplicates, true);
  view.setUint32(20, trimmedBefore === undefined ? 0 : 1, true);
  view.setBigUint64(24, trimmedBefore ?? 0n, true);
  record.set(packed, headerBytes);
  view.setUint32(4, crc32(record.subarray(8)), true);
  return record;
}

function decode(record: Uint8Array): Applied {
  const view = new DataView(record.buffer, record.byteOffset);
  const isTrim = view.getUint32(20, true) === 1;
  return {
    position: view.getBigUint64(8, true),
    duplicates: view.getUint32(16, true),
    trimmedBefore: isTrim ? view.getBigUint64(24, true) : undefined,
    messages: unpackMessages(record.subarray(headerBytes)),
  };
}

/** Of the record there; 0 where none is whole. */
function sizeAt(bytes: Uint8Array, offset: number): number {
  if (offset + headerBytes > bytes.length) return 0;
  const view = new DataView(bytes.buffer, offset);
  const size = view.getUint32(0, true);
  if (size < headerBytes || offset + size > bytes.length) return 0;
  const sum = crc32(bytes.subarray(offset + 8, offset + size));
  return sum === view.getUint32(4, true) ? size : 0;
}
