/** `gapless bus doctor`: what this machine lacks for channels, and how to set it. */
import fs from "node:fs";
import { styleText } from "node:util";
import { Command } from "commander";
import { invalidConfig } from "../config.ts";
import { readMachineFacts } from "../memory/facts.ts";
import { examineMachine, type Finding } from "./machine-findings.ts";

interface DoctorFlags {
  readonly directory: string;
  readonly json?: boolean;
}

export function doctor(): Command {
  return new Command("doctor")
    .description("Say what this machine lacks for channels, and how to set it. Changes nothing.")
    .option("--directory <directory>", "where the channels are, or will be", "/dev/shm")
    .option("--json", "print the facts and the findings as one JSON object")
    .action(examine);
}

function examine({ directory, json }: DoctorFlags): void {
  if (fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
    const problem = `expected a directory, found none at ${directory}`;
    throw invalidConfig("command line", [{ key: "--directory", problem }]);
  }
  const facts = readMachineFacts(directory);
  const findings = examineMachine(facts);
  process.stdout.write(
    json === true ? `${JSON.stringify({ facts, findings }, null, 2)}\n` : formatFindings(findings),
  );
}

/** A line a finding; what to do about it, and why, is indented below. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  const lines = findings.flatMap(({ subject, found, why, advice }) => {
    const verdict =
      advice === undefined ? styleText("green", "ok    ") : styleText("yellow", "advice");
    return [
      `${verdict}  ${subject.padEnd(width)}  ${found}`,
      ...(advice === undefined ? [] : [`        why     ${why}`]),
      ...(advice?.now ?? []).map((line) => `        now     ${line}`),
      ...(advice?.always ?? []).map((line) => `        always  ${line}`),
    ];
  });
  return `${lines.join("\n")}\n`;
}
