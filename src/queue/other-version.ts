/**
 * Files that another release has written are whole, and say to this one what is not so. Whoever
 * judges or mends a queue refuses them all before: nothing else of such a queue is certain.
 */
import fs from "node:fs";
import path from "node:path";
import { storageFailed } from "../errors.ts";
import { controlFileName, otherVersion, versionOf } from "./control.ts";
import {
  controlMagic,
  formatVersion,
  headerBytes,
  readerMagic,
  segmentFileName,
  segmentMagic,
} from "./layout.ts";
import { listReaders, readerFileOf } from "./reader-file.ts";
import { listSegments } from "./segment.ts";

/** @throws GaplessError STORAGE_CORRUPT; SYSTEM_CALL_FAILED where a file may not be read */
export function refuseOtherVersions(directory: string): void {
  refuse(path.join(directory, controlFileName), controlMagic);
  for (const number of listSegments(directory)) {
    refuse(path.join(directory, segmentFileName(number)), segmentMagic);
  }
  for (const name of listReaders(directory)) refuse(readerFileOf(directory, name), readerMagic);
}

function refuse(filePath: string, magic: string): void {
  const version = readVersion(filePath, magic);
  if (version !== undefined && version !== formatVersion) throw otherVersion(filePath, version);
}

/** undefined where the first line of the file does not hold, or it is gone. */
function readVersion(filePath: string, magic: string): number | undefined {
  try {
    const fd = fs.openSync(filePath, "r");
    try {
      const header = new Uint8Array(headerBytes);
      return fs.readSync(fd, header) < headerBytes ? undefined : versionOf(header.buffer, magic);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw storageFailed(`reading ${filePath}`, error);
  }
}
