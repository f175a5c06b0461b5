/** `gapless buffer` in the process of the test, where it is refused before it does anything. */
import { buffer } from "../../../src/cli/buffer.ts";
import { GaplessError } from "../../../src/errors.ts";

/** Code and message, as the command prints them. */
export async function refusalOf(...args: string[]): Promise<string> {
  try {
    await buffer().parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof GaplessError)) throw error;
    return `${error.code}: ${error.message}`;
  }
  throw new Error(`it was not refused: ${args.join(" ")}`);
}
