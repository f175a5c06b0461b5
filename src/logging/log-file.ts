/**
 * A file that lines are appended to, and the older ones that it became when it was full: before it
 * would become longer than `bytesMax`, `file` becomes `file.1`, that one `file.2`, and so on.
 *
 * Of one process: two that append and rotate would rename each other's.
 */
import fs from "node:fs";
import { storageFailed } from "../errors.ts";

const newline = 0x0a;

export interface LogFileOptions {
  readonly file: string;
  /** A file is never longer, but for a single line that is. */
  readonly bytesMax: number;
  /** How many files there are at most, the newest included. */
  readonly filesMax: number;
}

interface OpenFile {
  readonly fd: number;
  readonly inode: number;
  bytes: number;
}

/** @throws GaplessError STORAGE_FULL, SYSTEM_CALL_FAILED in all methods. */
export class LogFile {
  private readonly options: LogFileOptions;
  private opened: OpenFile | undefined;

  constructor(options: LogFileOptions) {
    this.options = options;
  }

  /** How many bytes can be appended before the file is full. */
  room(): number {
    return this.options.bytesMax - this.attempt(() => this.open()).bytes;
  }

  /** Appends all of it to one file. Where it throws, none of it is in any. */
  append(lines: Uint8Array): void {
    this.attempt(() => {
      const file = this.open();
      if (file.bytes === 0 || file.bytes + lines.length <= this.options.bytesMax) {
        write(file, lines);
        return;
      }
      this.rotate();
      write(this.open(), lines);
    });
  }

  close(): void {
    if (this.opened !== undefined) fs.closeSync(this.opened.fd);
    this.opened = undefined;
  }

  /** The file of that name: not one that was renamed or removed by others in the meantime. */
  private open(): OpenFile {
    const { file } = this.options;
    const inode = fs.statSync(file, { throwIfNoEntry: false })?.ino;
    if (this.opened !== undefined && this.opened.inode === inode) return this.opened;
    this.close();
    const fd = fs.openSync(file, "a+");
    const { ino, size } = fs.fstatSync(fd);
    this.opened = { fd, inode: ino, bytes: size };
    if (endsWithinLine(this.opened)) write(this.opened, Buffer.from("\n"));
    return this.opened;
  }

  private rotate(): void {
    const { file, filesMax } = this.options;
    this.close();
    if (filesMax === 1) fs.rmSync(file, { force: true });
    for (let number = filesMax - 1; number > 0; number--) {
      const newer = number === 1 ? file : `${file}.${number - 1}`;
      if (fs.existsSync(newer)) fs.renameSync(newer, `${file}.${number}`);
    }
  }

  private attempt<Result>(action: () => Result): Result {
    try {
      return action();
    } catch (error) {
      throw storageFailed(`logging to ${this.options.file}`, error);
    }
  }
}

/** Whoever wrote it last was killed in the middle. */
function endsWithinLine({ fd, bytes }: OpenFile): boolean {
  const last = Buffer.alloc(1);
  return bytes > 0 && fs.readSync(fd, last, 0, 1, bytes - 1) === 1 && last[0] !== newline;
}

function write(file: OpenFile, lines: Uint8Array): void {
  let written = 0;
  try {
    while (written < lines.length) written += fs.writeSync(file.fd, lines, written);
    file.bytes += written;
  } catch (error) {
    // A full disk takes a part. What is tried again must not be there twice.
    if (written > 0) fs.ftruncateSync(file.fd, file.bytes);
    throw error;
  }
}
