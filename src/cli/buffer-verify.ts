/** `gapless buffer verify`: whether a buffer still has all that it says it has. */
import { styleText } from "node:util";
import { Command } from "commander";
import { checkArchive, reportUnopened, type ArchiveReport } from "./archive-check.ts";
import { withPeerOptions } from "./buffer-peer.ts";
import { openPlace, withFamily, withPeer, type Place, type PlaceFlags } from "./buffer-place.ts";
import { exitInterrupted, untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import { formatBytes, formatCount, wrap } from "./table.ts";

const exitDamaged = 1;

export function bufferVerify(): Command {
  const command = new Command("verify")
    .description(
      "Read every message of a buffer, and check that each follows on the one before, and that " +
        "they are as many as the buffer says. Tells the first damage, and then exits with 1.",
    )
    .argument("[path]", "directory that the buffer is under, where nobody has it open")
    .option("--json", "print what was found as one JSON object");
  return withPeerOptions(withPeer(withFamily(command))).action(verify);
}

async function verify(
  dbPath: string | undefined,
  flags: PlaceFlags & { readonly json?: boolean },
): Promise<void> {
  using interrupt = untilInterrupted();
  const report = await look(dbPath, flags, interrupt.signal);
  const text = flags.json === true ? formatJson(report, 2) : formatReport(report).join("\n");
  process.stdout.write(`${text}\n`);
  if (report.damage !== undefined) process.exitCode = exitDamaged;
  else if (!report.isComplete) process.exitCode = exitInterrupted;
}

/** What does not open for damage is a finding, as damage further on is. */
async function look(
  dbPath: string | undefined,
  flags: PlaceFlags,
  signal: AbortSignal,
): Promise<ArchiveReport> {
  let place: Place;
  try {
    place = await openPlace(dbPath, flags);
  } catch (error) {
    return reportUnopened(error);
  }
  await using opened = place;
  return await checkArchive(opened.archive, opened.stats, signal);
}

function formatReport(report: ArchiveReport): string[] {
  const { messages, bytes, minId, maxId, sha256, damage, isComplete } = report;
  const size = `${formatCount(messages)} messages, ${formatBytes(bytes)}`;
  if (damage !== undefined) {
    const { behindId, problem } = damage;
    const where = behindId === undefined ? "" : `behind id ${behindId}: `;
    const [first = "", ...rest] = wrap(`${where}${problem}`, "        ");
    return [
      `${styleText("red", "damage")}  ${first.trimStart()}`,
      ...rest,
      `${size} before it are as they should be; what is behind it was not looked at.`,
    ];
  }
  if (!isComplete) return [`${size} read, then it was stopped: nothing was wrong.`];
  if (minId === undefined) return ["There is no message: nothing is wrong."];
  return [`${size}, id ${minId} to ${maxId}: nothing is wrong.`, `sha256  ${sha256}`];
}
