/** What happens to the files of a queue behind everybody's back. */
import fs from "node:fs";
import path from "node:path";
import { controlFileName } from "../../src/queue/control.ts";
import { controlOffset } from "../../src/queue/layout.ts";

/** Changes what is in a file. */
export function change(filePath: string, how: (content: Buffer) => void): void {
  const content = fs.readFileSync(filePath);
  how(content);
  fs.writeFileSync(filePath, content);
}

/** As if the machine had started again since. */
export function startAgain(directory: string): void {
  change(path.join(directory, controlFileName), (content) =>
    content.fill(0xb0, controlOffset.boot, controlOffset.boot + 16),
  );
}
