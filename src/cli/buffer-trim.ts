/** `gapless buffer trim`: gives up old messages, and says before which those are. */
import path from "node:path";
import { Command, Option } from "commander";
import type { MsgBuffer } from "../buffer/buffer.ts";
import { InvalidOperation } from "../buffer/buffer-errors.ts";
import { openFamily, parseId, withFamily, type FamilyFlags } from "./buffer-place.ts";
import { formatJson } from "./json-text.ts";
import { formatCount } from "./table.ts";

interface TrimFlags extends FamilyFlags {
  readonly before: bigint;
  readonly write?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

export function bufferTrim(): Command {
  const command = new Command("trim")
    .description(
      "Say which messages would be given up, and with --write do it, for good. For a buffer that " +
        "nobody has open: a process that has one trims it itself.",
    )
    .argument("<path>", "directory that the buffer is under")
    .addOption(
      new Option("--before <id>", "give up what is before this id")
        .makeOptionMandatory()
        .argParser((text) => parseId("--before", text)),
    )
    .option("--write", "do it")
    .option("--force", "also one that follows a replicated log, which then differs from the others")
    .option("--json", "print it as one JSON object");
  return withFamily(command).action(trim);
}

async function trim(dbPath: string, flags: TrimFlags): Promise<void> {
  const { family, before: beforeId, write: isWritten = false } = flags;
  await using buffer = await openFamily(dbPath, family);
  const { total, minId: fromId, logPosition } = await buffer.stats();
  if (logPosition > 0n && flags.force !== true) {
    throw new InvalidOperation(
      `This buffer follows a replicated log, applied through ${logPosition}: a trim that only it ` +
        "makes lets it differ from the other replicas. Propose the trim to the log, or --force.",
    );
  }
  const deleted = isWritten ? await buffer.trim(beforeId) : await countBefore(buffer, beforeId);
  const minId =
    isWritten || deleted === 0 ? await buffer.minId() : await firstFrom(buffer, beforeId);
  const left = total - deleted;
  const directory = path.resolve(dbPath, family);
  if (flags.json === true) {
    process.stdout.write(
      `${formatJson({ directory, beforeId, deleted, left, minId, isWritten }, 2)}\n`,
    );
    return;
  }
  const verb = isWritten ? "trimmed" : "would trim";
  const from = deleted === 0 || fromId === undefined ? "" : `, from id ${fromId}`;
  const rest = minId === undefined ? "" : `, from id ${minId}`;
  const done = isWritten ? "" : "\nNothing was changed: --write does it.";
  const counts = `${formatCount(deleted)} messages${from}; left: ${formatCount(left)}${rest}`;
  process.stdout.write(`${verb}  ${counts}.${done}\n`);
}

/** As `MsgBuffer.trim`, without doing it. */
async function countBefore(buffer: MsgBuffer, beforeId: bigint): Promise<number> {
  const { lastId } = buffer;
  if (beforeId > lastId + 1n) {
    throw new InvalidOperation(
      `The buffer cannot be trimmed before id=${beforeId}: the newest message is id=${lastId}.`,
    );
  }
  const minId = await buffer.minId();
  if (minId === undefined || beforeId <= minId) return 0;
  return (await buffer.archive.digest(minId, beforeId - 1n)).count;
}

async function firstFrom(buffer: MsgBuffer, id: bigint): Promise<bigint | undefined> {
  return id > buffer.lastId ? undefined : (await buffer.archive.read(id, 1))[0].id;
}
