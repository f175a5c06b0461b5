/**
 * The ordered log that replicas of one buffer follow, and the one encoding of what is in it.
 *
 *   whoever decides ──propose──► log: 1 append, 2 append, 3 trim, … ──read──► every replica
 *
 *   0       3      4      5        8         16
 *   | "GLC" | 1 u8 | kind | 0 u24 | value u64 | messages as message.ts packs them
 *
 *   kind 1: append, value = how many messages follow, at least one
 *   kind 2: trim, value = the id before which everything goes; nothing follows
 *
 * All little-endian. Byte 3 is the version: another one is not guessed at, since replicas that read
 * a command in two ways would differ from there on.
 */
import { assert, GaplessError, isGaplessError } from "../errors.ts";
import { encodedBytes, encodeMessage, unpackMessages, type Message } from "../message.ts";

/** Messages that follow on those before them, as the buffer takes them. */
export interface AppendCommand {
  readonly kind: "append";
  /** In chain order, at least one. */
  readonly messages: readonly Message[];
}

/** Everything before an id goes. */
export interface TrimCommand {
  readonly kind: "trim";
  readonly beforeId: bigint;
}

/** What can be proposed. */
export type LogCommand = AppendCommand | TrimCommand;

/** Something in the log that is no command: every replica sees the same, and refuses it. */
export interface UnreadableCommand {
  readonly kind: "unreadable";
  readonly error: GaplessError;
}

/** A command, and where in the log it is. */
export interface LogEntry {
  /** Given by the log: above zero, and above those of all entries before. */
  readonly position: bigint;
  readonly command: LogCommand | UnreadableCommand;
}

/** The reading end of a log. */
export interface LogReader {
  /** Whether positions go up by one: an entry that is not the next is then a loss. */
  readonly isDense: boolean;
  /**
   * Everything behind `afterPosition`, past and to come, until the signal aborts, which ends the
   * iteration normally. Whoever asks for the next batch has dealt with the one before: the log need
   * not keep it for this reader any more.
   *
   * @throws GaplessError DATA_TRIMMED where the log does not keep what comes next any more;
   *   CHAIN_BROKEN where the log ends before `afterPosition`, and so is another one; MESSAGES_LOST;
   *   STORAGE_CORRUPT for a command of another version
   */
  read(afterPosition: bigint, signal: AbortSignal): AsyncIterable<readonly LogEntry[]>;
}

/** A log that gives every command its place, durably. */
export interface ReplicatedLog extends LogReader, AsyncDisposable {
  /**
   * Resolves with the position of the command once the log has it durably. Calls take effect in
   * their order. What is proposed may be refused by the replicas, all of them alike: that shows
   * where it is applied, not here.
   *
   * @throws GaplessError PEER_UNAVAILABLE where the log does not answer: the command may or may not
   *   be in it, and proposing it again is safe, since a buffer ignores what it has.
   *   MESSAGE_MALFORMED, INVALID_OPERATION or MESSAGE_TOO_LARGE: it is not in the log. CLOSED
   */
  propose(command: LogCommand): Promise<bigint>;
}

/** Greatest id and position. */
export const positionMax = 2n ** 64n - 1n;

const magic = [0x47, 0x4c, 0x43] as const;
const version = 1;
const headerBytes = 16;
const offset = { version: 3, kind: 4, zero: 5, value: 8 } as const;
const kinds = { append: 1, trim: 2 } as const;

/** How the kind of a command is written, also beside it where a log has types. */
export function kindNumber(command: LogCommand): number {
  return kinds[command.kind];
}

/**
 * Encodes a command.
 *
 * @throws GaplessError INVALID_OPERATION for an append of nothing, or a trim before what is no id;
 *   MESSAGE_MALFORMED for a message that does not fit into 64 bits
 */
export function encodeCommand(command: LogCommand): Uint8Array {
  const messages = command.kind === "append" ? command.messages : [];
  check(command, messages);
  let size = headerBytes;
  for (const message of messages) size += encodedBytes(message);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(magic);
  bytes[offset.version] = version;
  bytes[offset.kind] = kindNumber(command);
  const value = command.kind === "append" ? BigInt(messages.length) : command.beforeId;
  view.setBigUint64(offset.value, value, true);
  let end = headerBytes;
  for (const message of messages) end = encodeMessage(message, bytes, view, end);
  assert(end === size, `a command of ${size} bytes was encoded into ${end}`);
  return bytes;
}

/**
 * Decodes a command. The messages of an append are views into `bytes`, which must not be reused.
 *
 * @throws GaplessError MESSAGE_MALFORMED where these bytes are no command; STORAGE_CORRUPT where
 *   they are one of another version
 */
export function decodeCommand(bytes: Uint8Array): LogCommand {
  if (bytes.length < headerBytes) throw malformed(`bytes=${bytes.length}, the header is cut off`);
  if (magic.some((byte, index) => bytes[index] !== byte)) throw malformed("it does not begin so");
  const found = bytes[offset.version] ?? 0;
  if (found !== version) throw otherVersion(found);
  for (let at: number = offset.zero; at < offset.value; at++) {
    if (bytes[at] !== 0) throw malformed(`the reserved byte ${at} is not zero`);
  }
  const kind = bytes[offset.kind];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const value = view.getBigUint64(offset.value, true);
  if (kind === kinds.trim) {
    if (bytes.length !== headerBytes) throw malformed(`bytes=${bytes.length} of a trim`);
    return { kind: "trim", beforeId: value };
  }
  if (kind !== kinds.append) throw malformed(`kind=${String(kind)}`);
  const messages = unpackMessages(bytes.subarray(headerBytes));
  if (messages.length === 0 || BigInt(messages.length) !== value) {
    throw malformed(`messages=${messages.length}, and it says ${value}`);
  }
  return { kind: "append", messages };
}

/**
 * Decodes what a log holds, whoever put it there.
 *
 * @throws GaplessError STORAGE_CORRUPT for a command of another version: nobody may go on behind it
 */
export function readCommand(bytes: Uint8Array): LogCommand | UnreadableCommand {
  try {
    return decodeCommand(bytes);
  } catch (error) {
    if (!isGaplessError(error, "MESSAGE_MALFORMED")) throw error;
    return { kind: "unreadable", error };
  }
}

/** The error where a replica knows more of a log than the log itself. */
export function anotherLog(where: string, afterPosition: bigint, newest: bigint): GaplessError {
  return new GaplessError(
    "CHAIN_BROKEN",
    `${where} is not the log that this replica has followed: it is at position=${afterPosition}, ` +
      `and the log ends with ${newest}. Give the replica a log of its own, or make it anew from ` +
      "one that follows this log.",
  );
}

/** The error where the beginning of a log is gone, and a replica needs it. */
export function logTrimmed(where: string, afterPosition: bigint, oldest: bigint): GaplessError {
  return new GaplessError(
    "DATA_TRIMMED",
    `${where} does not keep what this replica needs any more: it is at ` +
      `position=${afterPosition}, and the oldest entry left is ${oldest}. Make the replica anew ` +
      "from one that is further.",
  );
}

function check(command: LogCommand, messages: readonly Message[]): void {
  if (command.kind === "trim") {
    if (isU64(command.beforeId)) return;
    throw new GaplessError(
      "INVALID_OPERATION",
      `A trim before what is no id: beforeId=${command.beforeId}. Expected 64 bits.`,
    );
  }
  if (messages.length === 0) {
    throw new GaplessError("INVALID_OPERATION", "An append without a message was proposed.");
  }
  for (const { id, prevId, timestampNs } of messages) {
    if (isU64(id) && isU64(prevId) && isU64(timestampNs)) continue;
    throw new GaplessError(
      "MESSAGE_MALFORMED",
      `A message does not fit into 64 bits: id=${id}, prevId=${prevId}, ` +
        `timestampNs=${timestampNs}.`,
    );
  }
}

function isU64(value: bigint): boolean {
  return value >= 0n && value <= positionMax;
}

function malformed(reason: string): GaplessError {
  return new GaplessError("MESSAGE_MALFORMED", `A command of a log does not parse: ${reason}.`);
}

function otherVersion(found: number): GaplessError {
  return new GaplessError(
    "STORAGE_CORRUPT",
    `A command of the log has version=${found}, this release reads ${version}. Run one on this ` +
      "replica that reads both: skipping it would make the replica differ from the others.",
  );
}
