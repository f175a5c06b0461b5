/**
 * Carries out the commands of a made-up log on the buffer in the folder named first, from behind
 * the position that the buffer has come to, and prints each position that is acknowledged.
 */
import { commandAt, openCommanded } from "./commands.ts";

const [directory = "", seed = ""] = process.argv.slice(2);
const buffer = await openCommanded(directory);
for (let position = buffer.logPosition + 1n; ; position++) {
  const command = commandAt(Number(seed), position, buffer.lastId);
  const logPosition = position;
  if (command.kind === "append") await buffer.append(command.messages, { logPosition });
  else await buffer.trim(command.beforeId, { logPosition });
  process.stdout.write(`${position}\n`);
}
