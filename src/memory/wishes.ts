/**
 * What a channel would like its memory to be.
 *
 * A wish is granted where the machine can, and otherwise named with what there is to do about it:
 * a channel without huge pages is slower, and one that does not open is useless. The answer is
 * what the kernel reports of the mapping afterwards, not what it was asked for.
 */
import { errnoName, lastErrno, madvise, mbind, mbindCall } from "./libc.ts";
import { wholePages, type Mapping } from "./mapping.ts";
import { parseNumbers, readSystemFile } from "./system-files.ts";
import { explainSmallPages, transparentPageBytes } from "./transparent-pages.ts";

export interface MemoryWishes {
  readonly hugePages: boolean;
  readonly numaNode: number | undefined;
  /** Every page is there before the first message, instead of at the first touch. */
  readonly prefault: boolean;
}

/** The names that the wishes have in a configuration. */
export const wishNames = ["huge_pages", "numa_node", "prefault"] as const;

export type Wish = (typeof wishNames)[number];

export interface UnmetWish {
  readonly wish: Wish;
  /** What is the matter, and what to do. */
  readonly reason: string;
}

const adviceHugePage = 14;
const advicePopulateWrite = 23; // Linux 5.14
const adviceCollapse = 25; // Linux 6.1
const modeBind = 2;
/** Moves what is elsewhere, and fails with EIO where something has to stay. */
const flagsMoveStrictly = 0x2 | 0x1;
const nodesMax = 1024;

/**
 * Grants what can be granted of the memory of a file that `mapFile` has mapped; for each process
 * that maps it anew. Huge pages and a node can be had only of pages that are there, so either of
 * these wishes prefaults too. Blocks for as long as the kernel copies pages, and who uses the
 * memory meanwhile waits too: `createMemoryFile` has it done before there is anybody.
 */
export function grantWishes(mapping: Mapping, wishes: MemoryWishes): UnmetWish[] {
  const unmet: UnmetWish[] = [];
  const refuse = (wish: Wish, reason: string | undefined): void => {
    if (reason !== undefined) unmet.push({ wish, reason });
  };
  const { hugePages, numaNode, prefault } = wishes;
  if (!hugePages && numaNode === undefined && !prefault) return unmet;

  if (hugePages) collapse(mapping);
  const notThere = populate(mapping);
  if (prefault) refuse("prefault", notThere);
  if (numaNode !== undefined) refuse("numa_node", notThere ?? bindToNode(mapping, numaNode));
  // Last, because moved pages count as what they are then.
  if (hugePages) refuse("huge_pages", explainSmallPages(mapping));
  return unmet;
}

/**
 * Has the kernel make these pages ready to be written, whole ones and as many as may be: a later
 * touch takes nanoseconds instead of microseconds. False where it cannot.
 */
export function prefault(address: bigint, bytes: number): boolean {
  return madvise(address, bytes, advicePopulateWrite) === 0;
}

/** Asks for transparent huge pages: those at once, and those that are moved or made later too. */
function collapse({ address, buffer, pageBytes }: Mapping): void {
  if (pageBytes >= transparentPageBytes) return;
  madvise(address, buffer.byteLength, adviceHugePage);
  madvise(address, buffer.byteLength, adviceCollapse);
}

function populate({ address, buffer, pageBytes }: Mapping): string | undefined {
  const bytes = wholePages(buffer.byteLength, pageBytes);
  if (prefault(address, bytes)) return undefined;
  const errno = errnoName(lastErrno());
  switch (errno) {
    case "EINVAL":
      return "this kernel cannot prefault a mapped file: it takes Linux 5.14 or newer";
    case "EFAULT":
    case "ENOMEM":
      return "there is not enough memory for all of its pages: make the ring smaller, or free some";
    default:
      return `madvise(MADV_POPULATE_WRITE) failed: errno=${errno}`;
  }
}

function bindToNode({ address, buffer, pageBytes }: Mapping, node: number): string | undefined {
  const online = readSystemFile("/", "sys/devices/system/node/online");
  if (online === undefined) return "this kernel knows no NUMA nodes: leave numa_node out";
  if (!parseNumbers(online).includes(node)) {
    return `there is no node ${node} on this machine, which has ${online}: name one of these`;
  }
  const nodes = new Uint8Array(nodesMax / 8);
  nodes[node >>> 3] = 1 << (node & 7);
  const bytes = wholePages(buffer.byteLength, pageBytes);
  // The kernel takes one bit less than it is told.
  const maximum = nodesMax + 1;
  const result = mbind(mbindCall, address, bytes, modeBind, nodes, maximum, flagsMoveStrictly);
  if (result === 0) return undefined;
  const errno = errnoName(lastErrno());
  switch (errno) {
    case "EIO":
      return (
        `some of its pages could not be moved to node ${node}: other processes have mapped them. ` +
        "Stop the services of the channel and start them again"
      );
    case "EPERM":
      return "this container may not place memory: allow it mbind(2), with CAP_SYS_NICE in Docker";
    case "EINVAL":
      return `this process may not use node ${node}: its cpuset has others`;
    default:
      return `mbind(2) to node ${node} failed: errno=${errno}`;
  }
}
