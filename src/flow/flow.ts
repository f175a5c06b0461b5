/**
 * Following a chained stream into a sink that remembers where it is: `pump(source, sink)`.
 */
export { busSource, publishMessages, type BusSourceOptions } from "./bus-ends.ts";
export {
  noRepair,
  type Archive,
  type Bounds,
  type Repair,
  type Sink,
  type Source,
} from "./endpoints.ts";
export { openJournal, type Journal, type JournalOptions } from "./journal.ts";
export { followJournal, type JournalFollower } from "./journal-follower.ts";
export type { SilenceMs } from "./live.ts";
export { recordChannel, type RecordOptions } from "./recorder.ts";
export {
  replayingSubscriber,
  type ReplayingSubscriber,
  type ReplayMessage,
  type ReplayOptions,
} from "./replaying-subscriber.ts";
export { readSnapshot, writeSnapshot, type Snapshot } from "./snapshots.ts";
export { pump, type PumpOptions } from "./pump.ts";
export {
  openQueueLog,
  readQueueLog,
  type QueueLogOptions,
  type QueueLogReaderOptions,
} from "./queue-log.ts";
export { queueSource, type QueueSourceOptions } from "./queue-source.ts";
export {
  decodeCommand,
  encodeCommand,
  readCommand,
  type AppendCommand,
  type LogCommand,
  type LogEntry,
  type LogReader,
  type ReplicatedLog,
  type TrimCommand,
  type UnreadableCommand,
} from "./replicated-log.ts";
export { beginning, follow, type Link, type Placement } from "../chain.ts";
export { GaplessError, isGaplessError, type Advice, type ErrorCode } from "../errors.ts";
export { isBatch, packMessages, unpackMessages, type Batch, type Message } from "../message.ts";
export { decodeTrade, encodeTrade, type Market, type Trade } from "../trade.ts";
