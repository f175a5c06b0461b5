/** The C programs that figures are held against, built on the spot. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

export interface Reference extends Disposable {
  /** Runs it, and returns the lines that it prints. */
  run(...words: readonly (string | number)[]): string[];
}

/** undefined where there is no C compiler: then there is no reference. */
export function buildReference(program: "ring" | "log"): Reference | undefined {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "gapless-bench-"));
  const remove = (): void => fs.rmSync(directory, { recursive: true, force: true });
  const binary = path.join(directory, program);
  const source = path.join(import.meta.dirname, `${program}.c`);
  try {
    execFileSync("cc", ["-O2", "-pthread", "-o", binary, source]);
  } catch {
    console.error("No C compiler (cc): the figures have no reference.");
    remove();
    return undefined;
  }
  return {
    run(...words) {
      const options = { encoding: "utf8", maxBuffer: 2 ** 30 } as const;
      return execFileSync(binary, words.map(String), options).trim().split("\n");
    },
    [Symbol.dispose]: remove,
  };
}
