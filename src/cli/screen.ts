/** Lines that take the place of those before them: on a terminal, else a block after the other. */
import readline from "node:readline";

export interface Screen {
  show(lines: readonly string[]): void;
}

export function openScreen(output: NodeJS.WriteStream): Screen {
  let shownLines = 0;
  return {
    show(lines) {
      if (!output.isTTY) {
        output.write(`${lines.join("\n")}\n\n`);
        return;
      }
      // What has left a terminal at its top cannot be drawn again.
      const fitting = lines.slice(0, Math.max(1, output.rows - 1));
      const rest = lines.length - fitting.length;
      if (rest > 0) fitting.splice(-1, 1, `… ${rest + 1} more lines`);
      readline.cursorTo(output, 0);
      readline.moveCursor(output, 0, -shownLines);
      readline.clearScreenDown(output);
      output.write(`${fitting.map((line) => line.slice(0, output.columns)).join("\n")}\n`);
      shownLines = fitting.length;
    },
  };
}
