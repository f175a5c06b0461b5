/**
 * A replica: a buffer that does what a log says, in its order, each command once.
 *
 *   log      17 append   18 trim   19 append (refused)   20 append   …
 *   buffer   ────────────────────────► messages and position, in one write
 *
 * What is true is the position that the buffer has stored together with the effects of the
 * command. A replica that is killed anywhere begins again behind it: nothing is applied twice, and
 * nothing is left out. Replicas that have come to the same position hold the same messages.
 *
 * A command that the buffer refuses (a broken chain, a trim past the newest message) is refused
 * by every replica, since each of them has the same messages then: it is told, and the position
 * moves on. What fails for a reason of this machine (a full disk, a closed buffer) ends the
 * replica, and the command comes again when it is started again.
 */
import { assert, describeError, GaplessError, isGaplessError, type ErrorCode } from "../errors.ts";
import type { LogCommand, LogEntry, LogReader } from "../flow/replicated-log.ts";
import { encodedBytes, type Message } from "../message.ts";

/** What of a buffer a replica needs. */
export interface ReplicaTarget {
  /** Of the log, what was stored with the last append or trim; 0n before the first. */
  readonly logPosition: bigint;
  /**
   * Stores messages and position together, durably: both or neither. Messages that it has are
   * ignored, and the position moves on all the same, with no message at all too.
   */
  append(messages: readonly Message[], options: { readonly logPosition: bigint }): Promise<unknown>;
  /** The same for a trim; one that goes back moves the position only. */
  trim(beforeId: bigint, options: { readonly logPosition: bigint }): Promise<unknown>;
}

/** A command that changed nothing, on any replica. */
export interface RefusedCommand {
  readonly position: bigint;
  /** undefined where the entry of the log is no command. */
  readonly command: LogCommand | undefined;
  readonly reason: GaplessError;
}

export interface ReplicateOptions {
  /** Ends it after the commands under way. */
  readonly signal: AbortSignal;
  /** Called with the position whenever it has moved on. */
  readonly onProgress?: (position: bigint) => void;
  /**
   * Told of each refusal, and awaited, before the position moves past it: after a kill in between
   * it is told again. What it throws ends the replica. Default: a warning of the process.
   */
  readonly onRefused?: (refused: RefusedCommand) => unknown;
}

/** Decided by the messages that the buffer holds and by the command, and so alike everywhere. */
const appendRefusals: readonly ErrorCode[] = [
  "CHAIN_BROKEN",
  "MESSAGE_MALFORMED",
  "MESSAGE_TOO_LARGE",
  "DATA_TRIMMED",
  "DATA_NOT_YET_AVAILABLE",
  "CONFIG_INVALID",
];
/** Of an append it says that the ring of this machine is too small. */
const trimRefusals: readonly ErrorCode[] = [...appendRefusals, "INVALID_OPERATION"];

/** Appends that follow one another are stored together up to this size, or one larger. */
const runBytesMax = 1024 * 1024;

/**
 * Applies what is in the log behind the buffer's position, and what comes, until the signal aborts
 * or the log ends. Returns the position. Nobody else appends to the buffer, or trims it.
 *
 * @throws GaplessError MESSAGES_LOST where the log leaves out a position that it must not;
 *   CHAIN_BROKEN where it goes back; whatever log and buffer throw. Running it again is always safe
 */
export async function replicate(
  buffer: ReplicaTarget,
  log: LogReader,
  options: ReplicateOptions,
): Promise<bigint> {
  const { signal, onProgress, onRefused = warn } = options;
  const order = new Order(buffer.logPosition, log.isDense);

  const refuse = async (entry: LogEntry, reason: GaplessError): Promise<void> => {
    const { position, command } = entry;
    const isReadable = command.kind !== "unreadable";
    await onRefused({ position, command: isReadable ? command : undefined, reason });
    await buffer.append([], { logPosition: position });
  };

  const applyOne = async (entry: LogEntry): Promise<void> => {
    const { position: logPosition, command } = entry;
    if (command.kind === "unreadable") return refuse(entry, command.error);
    try {
      if (command.kind === "append") await buffer.append(command.messages, { logPosition });
      else await buffer.trim(command.beforeId, { logPosition });
    } catch (error) {
      const refusals = command.kind === "append" ? appendRefusals : trimRefusals;
      if (!isGaplessError(error, ...refusals)) throw error;
      await refuse(entry, error);
    }
  };

  /** One write for many small appends: the buffer takes all of them, or each is tried by itself. */
  const applyRun = async (run: readonly LogEntry[], logPosition: bigint): Promise<void> => {
    if (run.length > 1) {
      try {
        await buffer.append(run.flatMap(messagesOf), { logPosition });
        return;
      } catch (error) {
        // Together they may be more than the ring has room for, and one by one not.
        if (!isGaplessError(error, ...appendRefusals, "INVALID_OPERATION")) throw error;
      }
    }
    for (const entry of run) await applyOne(entry);
  };

  for await (const entries of log.read(buffer.logPosition, signal)) {
    for (const run of runsOf(order.fresh(entries))) {
      if (signal.aborted) return buffer.logPosition;
      const last = run.at(-1)?.position ?? buffer.logPosition;
      await applyRun(run, last);
      assert(buffer.logPosition === last, `position=${buffer.logPosition}, expected ${last}`);
      onProgress?.(last);
    }
  }
  return buffer.logPosition;
}

/** What comes next in a log, and what must not. */
class Order {
  /** What the buffer had at the beginning: up to it, entries have been applied. */
  private readonly start: bigint;
  private readonly isDense: boolean;
  private last: bigint;

  constructor(start: bigint, isDense: boolean) {
    this.start = start;
    this.isDense = isDense;
    this.last = start;
  }

  /** Those that were not applied. */
  fresh(entries: readonly LogEntry[]): LogEntry[] {
    return entries.filter(({ position }) => this.isFresh(position));
  }

  private isFresh(position: bigint): boolean {
    const { start, last, isDense } = this;
    if (position <= start && last === start) return false;
    if (position <= last) {
      throw new GaplessError(
        "CHAIN_BROKEN",
        `The log goes back: after position=${last} comes ${position}. Its driver is wrong, or it ` +
          "is another log now.",
      );
    }
    if (isDense && position !== last + 1n) {
      throw new GaplessError(
        "MESSAGES_LOST",
        `The log leaves out positions ${last + 1n} to ${position - 1n}, which this replica has ` +
          "not applied. Make the replica anew from one that has.",
      );
    }
    this.last = position;
    return true;
  }
}

/**
 * The pure part: appends that follow one another as one run, up to a size; anything else alone.
 */
export function runsOf(entries: readonly LogEntry[]): LogEntry[][] {
  const runs: LogEntry[][] = [];
  let run: LogEntry[] = [];
  let room = 0;
  for (const entry of entries) {
    const isAppend = entry.command.kind === "append";
    const bytes = messagesOf(entry).reduce((sum, message) => sum + encodedBytes(message), 0);
    if (isAppend && bytes <= room) {
      run.push(entry);
    } else {
      run = [entry];
      runs.push(run);
      room = isAppend ? runBytesMax : 0;
    }
    room -= bytes;
  }
  return runs;
}

function messagesOf({ command }: LogEntry): readonly Message[] {
  return command.kind === "append" ? command.messages : [];
}

async function warn({ position, command, reason }: RefusedCommand): Promise<void> {
  const what = command?.kind ?? "entry";
  process.emitWarning(
    `Replicas refuse the ${what} at position=${position} of their log: ${describeError(reason)}`,
    { code: reason.code },
  );
}
