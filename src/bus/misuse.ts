/** What a publisher is asked that cannot be done, and what it says to that. */
import { GaplessError } from "../errors.ts";
import type { Channel } from "./config.ts";
import type { Topic } from "./topics.ts";

/** An end that was given up. */
export function closed({ name }: Channel): GaplessError {
  return new GaplessError("CLOSED", `The producing end of channel ${name} is closed.`);
}

/** A message behind the end of the stream. */
export function finished({ name }: Channel): GaplessError {
  return new GaplessError(
    "CLOSED",
    `The producing end of channel ${name} has said by finish() that nothing will follow. Close ` +
      "it and open it again to begin a new run.",
  );
}

/** What wants every claim settled before it. */
export function claimOpen({ name }: Channel, what: string): GaplessError {
  return new GaplessError(
    "CLAIM_OPEN",
    `The producing end of channel ${name} has something claimed that is neither committed nor ` +
      `taken back. Call commit() or abort() before ${what}.`,
  );
}

/** A length that no message of the channel has. */
export function unfit({ name, messageBytesMax }: Channel, length: number): GaplessError {
  if (!(Number.isInteger(length) && length >= 0)) {
    return malformed(`a length is a whole number of bytes, not ${String(length)}`);
  }
  return new GaplessError(
    "MESSAGE_TOO_LARGE",
    `A message does not fit channel ${name}: bytes=${length}, message_size_max=${messageBytesMax}.`,
  );
}

/** Of anything but bytes a part, or nothing, would be copied without a word. */
export function checkBytes(bytes: unknown): void {
  if (!(bytes instanceof Uint8Array)) throw malformed("expected a Uint8Array or a Buffer");
}

/** The bytes of a topic. */
export function bytesOf(topic: Partial<Topic>): Uint8Array {
  if (topic.bytes !== undefined) return topic.bytes;
  throw malformed("a topic is what publisher.topic() returns, not its name");
}

function malformed(problem: string): GaplessError {
  return new GaplessError("INPUT_MALFORMED", `A message cannot be published: ${problem}.`);
}
