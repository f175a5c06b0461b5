/**
 * Preloaded into service processes (`node --import`): kills the process at a named step.
 *
 *   GAPLESS_TEST_KILLS   JSON: { SERVICE: { step, nth } }: at the nth time, once a run
 *   GAPLESS_TEST_MARKS   directory for the marks of kills that were made
 */
import { subscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import path from "node:path";
import { stepChannelName } from "../../src/steps.ts";

const { GAPLESS_TEST_KILLS: plan, GAPLESS_TEST_MARKS: marks } = process.env;
const service = path.basename(process.argv[2] ?? "", ".ts");

if (plan !== undefined && marks !== undefined) {
  const kills = JSON.parse(plan) as Record<string, { step: string; nth: number } | undefined>;
  const kill = kills[service];
  let seen = 0;
  subscribe(stepChannelName, (step) => {
    if (kill === undefined || step !== kill.step || ++seen !== kill.nth) return;
    try {
      fs.closeSync(fs.openSync(path.join(marks, service), "wx"));
    } catch {
      return;
    }
    process.kill(process.pid, "SIGKILL");
  });
}
