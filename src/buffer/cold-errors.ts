/** What RocksDB and the file system say, in the words of this package. */
import path from "node:path";
import { describeError, GaplessError, isGaplessError } from "../errors.ts";
import { StorageError } from "./buffer-errors.ts";
import { lockFile, rocksDirectory } from "./cold-layout.ts";
import { lockHolder } from "./lock-holder.ts";

type Operation = "open" | "read" | "write" | "close";

const noSpace = /No space left on device|Disk quota exceeded/;
/** Of a path that is no directory, or none that this process may write to. */
const noDirectory = new Set(["ENOTDIR", "EEXIST", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG"]);
const noFile = /No such file or directory/;

export function corrupt(directory: string, what: string, cause?: unknown): StorageError {
  const found = what.replace(/\.$/, "");
  return new StorageError(
    "STORAGE_CORRUPT",
    `The buffer in ${directory} is damaged: ${found}. Move the directory away and start again: ` +
      "it is rebuilt from the stage before it.",
    { cause },
  );
}

/** RocksDB has an errno in its text only, so this is the one place that reads a text. */
export function storageError(
  error: unknown,
  directory: string,
  operation: Operation,
): GaplessError {
  if (isGaplessError(error, "MESSAGE_MALFORMED")) return corrupt(directory, error.message, error);
  if (error instanceof GaplessError) return error;
  const cause = rootOf(error);
  const code = codeOf(cause);
  const text = describeError(cause);
  if (code === "LEVEL_LOCKED") {
    const who = describeHolder(lockHolder(path.join(directory, rocksDirectory, lockFile)));
    return new GaplessError(
      "ALREADY_OPEN",
      `The buffer in ${directory} is open already in ${who}. Close it there, or stop that process.`,
      { cause },
    );
  }
  if (code === "ENOSPC" || code === "EDQUOT" || noSpace.test(text)) {
    return new StorageError(
      "STORAGE_FULL",
      `No room for the buffer in ${directory} (${operation}): ${text}. Free space on its file ` +
        "system, then open it again.",
      { cause },
    );
  }
  if (code === "LEVEL_CORRUPTION") return corrupt(directory, text, cause);
  // A file that RocksDB expects and that is gone.
  if (code === "LEVEL_IO_ERROR" && noFile.test(text)) return corrupt(directory, text, cause);
  if (operation === "open" && typeof code === "string" && noDirectory.has(code)) {
    return new GaplessError(
      "CONFIG_INVALID",
      `No buffer can be opened in directory=${directory}: ${text}.`,
      { cause },
    );
  }
  return new StorageError(
    "SYSTEM_CALL_FAILED",
    `The buffer in ${directory} failed (${operation}): ${text}. The device may be failing.`,
    { cause },
  );
}

/** RocksDB names the file that is locked, and nobody who has locked it. */
function describeHolder(pid: number | undefined): string {
  if (pid === undefined) return "another process, or in this one";
  return `${pid === process.pid ? "this" : "another"} process: pid=${pid}`;
}

/** abstract-level wraps what went wrong at opening and closing. */
function rootOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
