/**
 * Writes the snapshots 1, 2, … into argv[2] and kills itself at the step argv[3] of the last one,
 * number argv[4].
 */
import { subscribe } from "node:diagnostics_channel";
import { writeSnapshot } from "../../../src/flow/snapshots.ts";
import { stepChannelName } from "../../../src/steps.ts";

const [, , directory = "", lastStep = "", count = ""] = process.argv;
let lastId = 0n;

subscribe(stepChannelName, (step) => {
  if (step === lastStep && lastId === BigInt(count)) process.kill(process.pid, "SIGKILL");
});
for (lastId = 1n; ; lastId++) writeSnapshot(directory, { lastId, state: `state ${lastId}` });
