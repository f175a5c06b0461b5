import { GaplessError } from "../errors.ts";
import { lastErrno, schedSetaffinity, systemCallFailed } from "./libc.ts";

const coresMax = 1024;
const callingThread = 0;
const errnoInvalid = 22;

/**
 * Keeps the calling thread on one core, counted from zero.
 *
 * @throws GaplessError CONFIG_INVALID where the machine, or the container, has no such core.
 */
export function pinThread(core: number): void {
  const mask = new Uint8Array(coresMax / 8);
  const byte = mask[core >>> 3];
  if (!Number.isInteger(core) || core < 0 || byte === undefined) throw noSuchCore(core);
  mask[core >>> 3] = byte | (1 << (core & 7));
  if (schedSetaffinity(callingThread, mask.length, mask) === 0) return;
  const errno = lastErrno();
  throw errno === errnoInvalid
    ? noSuchCore(core)
    : systemCallFailed(`sched_setaffinity to core ${core}`, errno);
}

function noSuchCore(core: number): GaplessError {
  return new GaplessError(
    "CONFIG_INVALID",
    `No core to pin to: core=${core}. Expected a core that this process may run on.`,
  );
}
