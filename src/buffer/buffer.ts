/**
 * The two-tier buffer: the newest messages in memory, all of them in RocksDB, any range by id.
 *
 *     await using buffer = await openMsgBuffer({
 *       component: "trades",
 *       storage: { dbPath: "/var/lib/exchange" },
 *     });
 *     await buffer.append(messages); // durable when this resolves
 *     const listen = { host: "10.0.0.7", port: 7400 };
 *     await using server = await serveBuffers({ flows: [buffer], listen });
 *
 * and in another process, which has missed some:
 *
 *     await using peer = connectPeer({ address: "10.0.0.7:7400", flow: "trades" });
 *     await fillGap({ peers: [peer], afterId: lastId, throughId, apply });
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
export type { BufferStats, ExcessRules, LastTrim } from "./buffer-stats.ts";
export { bytesCodec, jsonCodec, protobufCodec, type Codec } from "./codec.ts";
export type { Appended } from "./commit-queue.ts";
export { CoordinatedTrim, type CoordinatedTrimOptions } from "./coordinated-trim.ts";
export { fillGap, type FilledGap, type FillOptions } from "./fill-gap.ts";
export type { BufferLoss, BufferLossCause, BufferLosses, LossRecorder } from "./loss-ledger.ts";
export { openMsgBuffer, type LogOptions, type MsgBuffer } from "./msg-buffer.ts";
export type { MsgReader, Next } from "./msg-reader.ts";
export type { Place } from "./peer-address.ts";
export { connectPeer, type Peer } from "./peer-client.ts";
export type { GapPeer, GroupOptions, LostRange, PeerAnswer } from "./peer-group.ts";
export type { Pem, PeerOptions, ServeLimits, ServeOptions } from "./peer-options.ts";
export { serveBuffers, type BufferServer } from "./peer-server.ts";
export { recoverLeader, type Recovered, type RecoverOptions } from "./recover-leader.ts";
export {
  replicate,
  type RefusedCommand,
  type ReplicaTarget,
  type ReplicateOptions,
} from "./replicate.ts";
export {
  startRetention,
  type RetainedBuffer,
  type Retention,
  type RetentionOptions,
} from "./retention.ts";
export type { ConsumerPassedOver, RetentionDecision, RetentionRules } from "./retention-policy.ts";
export { GaplessError, isGaplessError, type Advice, type ErrorCode } from "../errors.ts";
export type { Batch, Message } from "../message.ts";
