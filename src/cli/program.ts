/** What `gapless` can be told. One file a subcommand; this one only knows their names. */
import { Command, CommanderError } from "commander";
import { describeError, GaplessError, isGaplessError, storageFailed } from "../errors.ts";
import { buffer } from "./buffer.ts";
import { bus } from "./bus.ts";
import { clean } from "./clean.ts";
import { queue } from "./queue.ts";
import { up } from "./up.ts";

const exitFailure = 1;
const exitUsage = 2;

/** Does what the command line says. @param version Of the package. */
export async function runProgram(version: string): Promise<void> {
  // Whoever reads the output has seen enough of it, as `head` does.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") tell(storageFailed("the output cannot be written", error));
    process.exit();
  });
  // What nobody reads ends nothing.
  process.stderr.on("error", () => undefined);
  try {
    await programOf(version).parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : exitUsage;
    else tell(error);
  }
}

function programOf(version: string): Command {
  return new Command("gapless")
    .description("The loss-proof message backbone for trading systems on Node.js.")
    .version(version, "--version", "print the version of the package")
    .exitOverride()
    .enablePositionalOptions()
    .addCommand(up().exitOverride())
    .addCommand(bus().exitOverride())
    .addCommand(queue().exitOverride())
    .addCommand(buffer().exitOverride())
    .addCommand(clean().exitOverride());
}

function tell(error: unknown): void {
  const known = error instanceof GaplessError ? `${error.code}: ` : "";
  process.stderr.write(`${known}${describeError(error)}\n`);
  process.exitCode = isGaplessError(error, "CONFIG_INVALID") ? exitUsage : exitFailure;
}
