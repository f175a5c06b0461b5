/** What both ends of a peer connection agree on, beyond msg_sync.proto. */
import { encodedBytes, type Batch, type Message } from "../message.ts";

/** Trailer with a BufferError: an error of the buffer, with its ids. */
export const errorTrailer = "gapless-error-bin";

/** The most messages that a client reads at a time, and a server from its archive. */
export const readMessagesMax = 16_384;
/**
 * A frame ends behind the message with which it has this many bytes. A server holds two of them
 * for a client that does not read; much smaller ones cost throughput.
 */
export const frameBytes = 128 * 1024;
/** What protobuf adds to a frame, generously. */
export const frameOverheadBytes = 1024;
export const requestBytesMax = 4096;

/** How many of the messages from `begin` on have at least `bytes` together; all where fewer. */
export function countWithin(messages: Batch, begin: number, bytes: number): number {
  let sum = 0;
  for (let index = begin; index < messages.length; index++) {
    // The index is in range.
    sum += encodedBytes(messages[index] as Message);
    if (sum >= bytes) return index - begin + 1;
  }
  return messages.length - begin;
}
