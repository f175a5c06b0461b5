/** What both ends of a peer connection agree on, beyond buffer.proto. */
import { GaplessError } from "../errors.ts";
import { messageBytesMax } from "./chunk.ts";
import { readBytesMax } from "./range.ts";

/** Trailer with the stable code of an error. */
export const codeTrailer = "gapless-code";

/** The most messages in a reply. */
export const replyMessagesMax = 16_384;
/** A reply stops behind the message that crosses `readBytesMax`; the rest is protobuf's own. */
export const replyBytesMax = readBytesMax + messageBytesMax + 1024;
export const requestBytesMax = 1024;

/** `sun_path` less its terminating zero. Node cuts a longer path off without a word. */
const socketPathBytesMax = 107;

/** @throws GaplessError CONFIG_INVALID for a path that no socket can have. */
export function checkSocketPath(socketPath: string): void {
  const bytes = Buffer.byteLength(socketPath);
  if (bytes >= 1 && bytes <= socketPathBytesMax && !socketPath.includes("\0")) return;
  throw new GaplessError(
    "CONFIG_INVALID",
    `Not a path for a socket: bytes=${bytes}, expected 1 to ${socketPathBytesMax}: ${socketPath}`,
  );
}
