/**
 * The two-tier buffer: the newest messages in memory, all of them in RocksDB, any range by id.
 *
 *     await using buffer = await openMsgBuffer({
 *       component: "matching-engine",
 *       storage: { dbPath: "/var/lib/exchange" },
 *     });
 *     await buffer.append(messages); // durable when this resolves
 *     await using server = await serveBuffer(buffer.archive, "/run/exchange/trades.sock");
 *
 * and in another process, which has missed some:
 *
 *     await using peer = connectBuffer("/run/exchange/trades.sock");
 *     const missing = await peer.read(lastId + 1n, 1000);
 */
export type { ArchiveStatus, BufferArchive, FollowOptions, RangeDigest } from "./archive.ts";
export {
  BufferFull,
  DataCorrupted,
  DataNotYetAvailable,
  DataTrimmed,
  InvalidOperation,
  StorageError,
} from "./buffer-errors.ts";
export type { BufferObserver, Tier } from "./buffer-observer.ts";
export type { MsgBufferOptions, RingBufferOptions, StorageOptions } from "./buffer-options.ts";
export { bytesCodec, jsonCodec, protobufCodec, type Codec } from "./codec.ts";
export type { Appended } from "./commit-queue.ts";
export type { BufferStats, LastTrim } from "./message-store.ts";
export { openMsgBuffer, type LogOptions, type MsgBuffer } from "./msg-buffer.ts";
export type { MsgReader, Next } from "./msg-reader.ts";
export { connectBuffer, type PeerOptions } from "./peer-client.ts";
export { serveBuffer } from "./peer-server.ts";
