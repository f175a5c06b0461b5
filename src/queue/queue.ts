/**
 * The durable log: what must outlive the process, in a directory of memory-mapped segments.
 *
 *     await using publisher = openPublisher("/var/lib/exchange/trades");
 *     const sequence = publisher.append(1, bytes);   // survives SIGKILL, and readers see it
 *     await publisher.flush();                       // survives power loss
 *
 *     await using subscriber = openSubscriber("/var/lib/exchange/trades", "ledger");
 *     for await (const batch of subscriber) {
 *       for (const message of batch) apply(message);
 *       subscriber.commit();
 *     }
 */
export { GaplessError, isGaplessError, type Advice, type ErrorCode } from "../errors.ts";
export { cleanupSegments, type Cleanup } from "./cleanup.ts";
export type { Position } from "./control.ts";
export {
  watchQueues,
  type FoundQueue,
  type FoundReader,
  type QueueWatch,
  type WatchOptions,
} from "./discovery.ts";
export { Envelope } from "./envelope.ts";
export {
  inspectQueue,
  type QueueSnapshot,
  type ReaderSnapshot,
  type SegmentSnapshot,
  type SegmentState,
  type UnreadableFile,
  type WriterSnapshot,
  type WriterState,
} from "./inspect.ts";
export type { QueueFinding, RepairName, SequenceRange, Severity } from "./flaw.ts";
export type { DisconnectReason, WriterStatus } from "./liveness.ts";
export { readLosses, type LossCause, type LossLedger, type QueueLoss } from "./loss-ledger.ts";
export { openPublisher } from "./open-publisher.ts";
export type { Durability, PublisherOptions } from "./options.ts";
export { BACK_PRESSURED, Publisher, type Entry } from "./publisher.ts";
export {
  PassiveDiscovery,
  type PassiveDiscoveryEvents,
  type PassiveDiscoveryOptions,
} from "./passive-discovery.ts";
export type { MessageHandler } from "./reading.ts";
export { startRetention, type Removed, type Retention, type RetentionOptions } from "./retain.ts";
export type { PassedOver, PassReason, RetentionPolicy } from "./retention.ts";
export type { StartMode } from "./start.ts";
export type { SubscriberOptions, WaitStrategy } from "./subscriber-options.ts";
export { openSubscriber, Subscriber, type QueueMessage } from "./subscriber.ts";
export type { Receipt } from "./durable.ts";
export type { SegmentMemory } from "./segment.ts";
export type { ChecksumKind } from "./layout.ts";
export type { FanInHandler } from "./confluence.ts";
export { FanInReader, openFanIn, type FanInMessage, type FanInOptions } from "./fan-in.ts";
export type { FanInEnvelope, FanInSource } from "./fan-in-source.ts";
export { joinLogging, openLogging } from "../logging/logging.ts";
export type {
  LogFields,
  Logger,
  Logging,
  LoggingHandle,
  LoggingOptions,
  LogLevel,
} from "../logging/logging.ts";
export { removeReader } from "./reader-removal.ts";
export { repairQueue, type RepairOptions, type RepairReport, type RepairStep } from "./repair.ts";
export { verifyQueue, type VerifyOptions, type VerifyReport } from "./verify.ts";
