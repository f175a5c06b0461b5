/** `gapless queue verify`: whether every byte of a queue is what its writer has written. */
import { styleText } from "node:util";
import { Command } from "commander";
import type { QueueFinding, RepairName, Severity } from "../queue/flaw.ts";
import { verifyQueue, type VerifyReport } from "../queue/verify.ts";
import { untilInterrupted } from "./interrupt.ts";
import { formatJson } from "./json-text.ts";
import { formatRange } from "./queue-table.ts";
import { formatBytes, formatCount, wrap } from "./table.ts";

const exitDamaged = 1;

const colors = { damage: "red", flaw: "yellow", note: "gray" } as const satisfies Record<
  Severity,
  string
>;

export function queueVerify(): Command {
  return new Command("verify")
    .description("Check every record and every note of a queue. Exits with 1 where it is damaged.")
    .argument("<path>", "directory of the queue, or of a copy")
    .option("--json", "print what was found as one JSON object")
    .action(verify);
}

async function verify(directory: string, { json }: { readonly json?: boolean }): Promise<void> {
  using interrupt = untilInterrupted();
  const print = (finding: QueueFinding): void => {
    process.stdout.write(`${formatFinding(finding).join("\n")}\n`);
  };
  const onFinding = json === true ? () => undefined : print;
  const report = await verifyQueue(directory, { onFinding, signal: interrupt.signal });
  process.stdout.write(`${json === true ? formatJson(report, 2) : formatReport(report)}\n`);
  if (report.isDamaged) process.exitCode = exitDamaged;
}

function formatFinding({ severity, file, offset, what, lost }: QueueFinding): string[] {
  const where = offset === undefined ? file : `${file} at ${offset}`;
  const losing = lost === undefined ? "" : `; lost: ${formatRange(lost.from, lost.to)}`;
  const [first = "", ...rest] = wrap(`${where}: ${what}${losing}`, "        ");
  return [`${styleText(colors[severity], severity.padEnd(6))}  ${first.trimStart()}`, ...rest];
}

function formatReport(report: VerifyReport): string {
  const { isLive, segments, records, bytes, lastSequence, findings, directory } = report;
  const counts = (["damage", "flaw", "note"] as const)
    .map((severity) => {
      const count = findings.filter((finding) => finding.severity === severity).length;
      return count === 0 ? undefined : `${severity} ${count}`;
    })
    .filter((text) => text !== undefined);
  const verdict = counts.length === 0 ? "nothing is wrong" : counts.join(", ");
  const size = `${formatCount(records)} records, ${formatBytes(bytes)}, in ${segments} segments`;
  const live = isLive
    ? ` It is written meanwhile: checked through #${formatCount(lastSequence)}.`
    : "";
  const lines = [`${size}: ${verdict}.${live}`];
  const repairs = new Set(findings.flatMap(({ repair }) => repair ?? []));
  if (repairs.size > 0 && !isLive) lines.push(adviceOf(directory, repairs));
  return lines.join("\n");
}

function adviceOf(directory: string, repairs: ReadonlySet<RepairName>): string {
  const flags = [...repairs].map((name) => `--${name}`).join(" ");
  return `What could be done about it is said by: gapless queue repair ${directory} ${flags}`;
}
