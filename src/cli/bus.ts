/** `gapless bus`: what there is to know about channels. One file a subcommand. */
import { Command } from "commander";
import { doctor } from "./doctor.ts";
import { stat } from "./stat.ts";
import { tail } from "./tail.ts";

export function bus(): Command {
  return new Command("bus")
    .description("Look at channels, and at the machine that they run on.")
    .addCommand(stat().exitOverride())
    .addCommand(tail().exitOverride())
    .addCommand(doctor().exitOverride());
}
