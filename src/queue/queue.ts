/**
 * The durable log: what must outlive the process, in a directory of memory-mapped segments.
 *
 *     await using publisher = openPublisher("/var/lib/exchange/trades");
 *     const sequence = publisher.append(1, bytes);   // survives SIGKILL, and readers see it
 *     await publisher.flush();                       // survives power loss
 */
export { openPublisher } from "./open-publisher.ts";
export type { Durability, PublisherOptions } from "./options.ts";
export { BACK_PRESSURED, Publisher, type Entry } from "./publisher.ts";
export type { Receipt } from "./durable.ts";
export type { SegmentMemory } from "./segment.ts";
export type { ChecksumKind } from "./layout.ts";
