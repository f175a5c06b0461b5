/**
 * Preloaded into a process (`node --import`) and so into its threads: kills the process at a named
 * step, the nth time that a thread reaches it.
 *
 *   GAPLESS_TEST_KILL_AT   STEP:NTH
 */
import { subscribe } from "node:diagnostics_channel";
import { stepChannelName } from "../../src/steps.ts";

const [step, nth] = (process.env["GAPLESS_TEST_KILL_AT"] ?? "").split(":");
let seen = 0;
subscribe(stepChannelName, (reached) => {
  if (reached === step && ++seen === Number(nth)) process.kill(process.pid, "SIGKILL");
});
