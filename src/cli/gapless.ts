#!/usr/bin/env node
/**
 * The command, and which Node it needs. What an older one cannot load is imported only behind the
 * question: else the user is told of a name that some module does not export.
 */
import fs from "node:fs";

interface Manifest {
  readonly version: string;
  /** `>=` and a major version. */
  readonly engines: { readonly node: string };
}

const manifestUrl = new URL("../../package.json", import.meta.url);
const { version, engines } = JSON.parse(fs.readFileSync(manifestUrl, "utf8")) as Manifest;
const majorNeeded = Number.parseInt(engines.node.replace(">=", ""), 10);
const found = process.versions.node;

if (Number.parseInt(found, 10) >= majorNeeded) {
  const { runProgram } = await import("./program.ts");
  await runProgram(version);
} else {
  process.stderr.write(
    `PLATFORM_UNSUPPORTED: gapless needs Node ${majorNeeded} or newer, and ` +
      `${process.execPath} is Node ${found}.\n`,
  );
  process.exitCode = 1;
}
