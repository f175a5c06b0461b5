/**
 * How far a queue is durable, and how it gets there: segments in order, so that what is durable
 * never has a hole in it.
 *
 * It works on the files, not on their mappings: these are given back while a sync is under way.
 */
import { fstatSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { storageFailed } from "../errors.ts";
import { wake } from "../memory/sleep.ts";
import { reachedStep } from "../steps.ts";
import { readersBed, type Control } from "./control.ts";
import { GroupCommit } from "./group-commit.ts";
import {
  checksumKinds,
  controlOffset,
  segmentFileName,
  segmentHeaderBytes,
  segmentOffset,
} from "./layout.ts";
import type { Durability } from "./options.ts";
import { raiseDurable, type Segment } from "./segment.ts";
import { segmentRemoved } from "./storage-errors.ts";

/** What became of a record. */
export interface Receipt {
  readonly sequence: number;
  /** What it outlives: nothing yet, the process (SIGKILL), or a power loss as well. */
  readonly level: "none" | "process" | "device";
}

/** What a publisher begins with. */
export interface DurableStart {
  /** The newest sequence. */
  readonly appended: number;
  /** The newest that is known to be durable. */
  readonly durable: number;
  /** The segment that is written next or now: some before it may not be durable. */
  readonly number: number;
}

const unchecked = checksumKinds.indexOf("none");

/** A segment that has ended and is not known to be durable. */
interface Retired {
  readonly number: number;
  readonly end: number;
  readonly isUnchecked: boolean;
}

export class Durable {
  /** The newest sequence that is known to be durable. */
  sequence: number;

  private readonly directory: string;
  private readonly control: Control;
  private readonly onFailure: () => void;
  private readonly commits = new GroupCommit(() => this.sync());
  private readonly syncsEach: boolean;
  private readonly timer: NodeJS.Timeout | undefined;
  private appendedSequence: number;
  private appendedEnd = 0;
  private segment: Segment | undefined;
  private handle: { readonly number: number; readonly file: fs.FileHandle } | undefined;
  private retired: Retired[] = [];
  /** Segments below it, which an earlier writer has left, are yet to be looked at. */
  private unknownBelow: number;
  private isFlushDue = false;
  /** After a failed sync the kernel may have dropped pages that it then calls clean. */
  private failure: Error | undefined;

  /** `onFailure` is called once a sync has failed: nothing more is to be appended. */
  constructor(
    directory: string,
    control: Control,
    start: DurableStart,
    durability: Durability,
    onFailure: () => void,
  ) {
    this.directory = directory;
    this.onFailure = onFailure;
    this.control = control;
    this.sequence = start.durable;
    // What comes from the disk is durable, also where the file that says so lagged behind it.
    control.doubles[controlOffset.durable / 8] = start.durable;
    this.appendedSequence = start.appended;
    this.unknownBelow = start.durable < start.appended ? start.number : 0;
    this.syncsEach = durability === "sync";
    if (typeof durability === "object") {
      this.timer = setInterval(() => this.flushSoon(), durability.intervalMs).unref();
    }
  }

  /** Told of each record, or of the last of many. */
  appended(sequence: number, end: number): void {
    this.appendedSequence = sequence;
    this.appendedEnd = end;
    if (this.syncsEach && !this.isFlushDue) this.flushSoon();
  }

  /** Told of the segment that is written from now on. */
  enter(segment: Segment, end: number): void {
    this.segment = segment;
    this.appendedEnd = end;
  }

  /** Told of a segment that has ended. */
  retire({ number, checksum }: Segment, end: number): void {
    this.retired.push({ number, end, isUnchecked: checksum === "none" });
  }

  flush(): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.sequence >= this.appendedSequence) return Promise.resolve();
    return this.commits.flush();
  }

  level(sequence: number): Receipt["level"] {
    if (!(sequence > 0 && sequence <= this.appendedSequence)) return "none";
    return sequence <= this.sequence ? "device" : "process";
  }

  /** @throws GaplessError SYSTEM_CALL_FAILED where the device has failed. */
  check(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  /** Makes everything durable. What `flush` throws, this does; it is closed nevertheless. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    try {
      await this.flush();
    } finally {
      // One that has nothing to add can be under way still, for somebody who waits for it.
      await this.commits.idle();
      await this.handle?.file.close();
      this.handle = undefined;
    }
  }

  /** A failure is kept, and told by the next call. */
  private flushSoon(): void {
    this.isFlushDue = true;
    this.flush()
      .catch(() => undefined)
      .finally(() => {
        this.isFlushDue = false;
        if (this.syncsEach && this.failure === undefined) {
          if (this.sequence < this.appendedSequence) this.flushSoon();
        }
      })
      .catch(() => undefined);
  }

  private async sync(): Promise<void> {
    const sequence = this.appendedSequence;
    const { segment, appendedEnd: end } = this;
    try {
      if (this.unknownBelow > 0) await this.recollect();
      const retired = [...this.retired];
      for (const one of retired) {
        await this.syncSegment(one, undefined);
        this.retired.shift();
      }
      // It has ended since.
      const isRetired = retired.some(({ number }) => number === segment?.number);
      if (segment !== undefined && !isRetired) {
        const { number, checksum } = segment;
        await this.syncSegment({ number, end, isUnchecked: checksum === "none" }, segment);
      }
    } catch (error) {
      this.failure = storageFailed(`flushing the queue in ${this.directory}`, error);
      this.onFailure();
      throw this.failure;
    }
    this.sequence = Math.max(this.sequence, sequence);
    const { words, doubles } = this.control;
    const told = doubles[controlOffset.durable / 8] ?? 0;
    // One that was fenced meanwhile does not take back what the next one has told.
    doubles[controlOffset.durable / 8] = Math.max(told, this.sequence);
    reachedStep("queue.durable");
    // SYNC durable-asleep: a swap, as a load could be done before the store of `durable` is seen; a
    // reader sets the flag, then looks.
    const asleep = Atomics.compareExchange(words, readersBed.asleep, 1, 1);
    if (asleep !== 0) wake(this.control, readersBed);
  }

  /** Finds the segments that an earlier writer of this boot has left without a sync. */
  private async recollect(): Promise<void> {
    for (let number = this.unknownBelow - 1; number > 0; number--) {
      const header = await readHeader(this.pathOf(number));
      if (header === undefined) break;
      const end = header.readUInt32LE(segmentOffset.end);
      const isMarked = header.readUInt32LE(segmentOffset.durable) >= end;
      const isUnchecked = header.readUInt32LE(segmentOffset.checksum) === unchecked;
      // Without sums all depends on the mark, which that writer may have stored and not synced.
      if (!isMarked || isUnchecked) this.retired.unshift({ number, end, isUnchecked });
      if (isMarked) break;
    }
    this.unknownBelow = 0;
  }

  /** Where the segment is still mapped, its durable mark is stored there. */
  private async syncSegment(
    { number, end, isUnchecked }: Retired,
    segment: Segment | undefined,
  ): Promise<void> {
    const file = await this.openFile(number);
    if (file === undefined) {
      // Its readers have it behind them; of the one that is written that cannot be.
      if (segment === undefined) return;
      throw segmentRemoved(segment.filePath);
    }
    await file.datasync();
    // One that has lost its name takes a sync as well, and is gone once it is closed.
    if (fstatSync(file.fd).nlink === 0) {
      if (segment === undefined) return;
      throw segmentRemoved(segment.filePath);
    }
    reachedStep("queue.synced");
    if (segment?.mapping.isMapped === true) raiseDurable(segment, end);
    else await raiseMark(file, end);
    // Without sums, nothing but the mark tells after a power loss what is whole.
    if (isUnchecked) await file.datasync();
  }

  /** The file of the segment that is written stays open. */
  private async openFile(number: number): Promise<fs.FileHandle | undefined> {
    if (this.handle?.number === number) return this.handle.file;
    await this.handle?.file.close();
    this.handle = undefined;
    const file = await openIfThere(this.pathOf(number), "r+");
    if (file !== undefined) this.handle = { number, file };
    return file;
  }

  private pathOf(number: number): string {
    return path.join(this.directory, segmentFileName(number));
  }
}

/** As `raiseDurable`. */
async function raiseMark(file: fs.FileHandle, end: number): Promise<void> {
  const mark = Buffer.alloc(4);
  await file.read(mark, 0, mark.length, segmentOffset.durable);
  if (mark.readUInt32LE() >= end) return;
  mark.writeUInt32LE(end);
  await file.write(mark, 0, mark.length, segmentOffset.durable);
}

/** undefined where the segment is not there any more. */
async function readHeader(filePath: string): Promise<Buffer | undefined> {
  const file = await openIfThere(filePath, "r");
  if (file === undefined) return undefined;
  try {
    const header = Buffer.alloc(segmentHeaderBytes);
    await file.read(header, 0, header.length, 0);
    return header;
  } finally {
    await file.close();
  }
}

async function openIfThere(filePath: string, flags: string): Promise<fs.FileHandle | undefined> {
  try {
    return await fs.open(filePath, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
