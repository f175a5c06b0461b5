/**
 * The C library, by way of koffi. Every function here costs about 170 ns before it does anything,
 * so none is called per message.
 */
import koffi from "koffi";
import { GaplessError } from "../errors.ts";

/** Numbers that differ by processor; the kernel has no other names for these calls. */
const callsByArch: Partial<Record<NodeJS.Architecture, { futex: number; mbind: number }>> = {
  x64: { futex: 202, mbind: 237 },
  arm64: { futex: 98, mbind: 235 },
};

/** Younger calls have the same number everywhere. */
export const futexWaitvCall = 449;

export const { futex: futexCall, mbind: mbindCall } = requirePlatform();

function requirePlatform(): { futex: number; mbind: number } {
  const calls = process.platform === "linux" ? callsByArch[process.arch] : undefined;
  if (calls === undefined) {
    throw new GaplessError(
      "PLATFORM_UNSUPPORTED",
      `Gapless runs on Linux x64 and arm64: this is ${process.platform} ${process.arch}.`,
    );
  }
  return calls;
}

const libc = koffi.load(null);

/** A koffi function, in both its forms: blocking, and on libuv's thread pool. */
interface Native<Arguments extends unknown[]> {
  (...args: Arguments): number;
  async(...args: [...Arguments, (error: unknown, result: number) => void]): void;
}

export const mmap = libc.func(
  "void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)",
) as (
  address: bigint | null,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => bigint | null;

export const munmap = libc.func("int munmap(void *addr, size_t length)") as Native<
  [address: bigint, length: number]
>;

export const msync = libc.func("int msync(void *addr, size_t length, int flags)") as Native<
  [address: bigint, length: number, flags: number]
>;

export const madvise = libc.func("int madvise(void *addr, size_t length, int advice)") as Native<
  [address: bigint, length: number, advice: number]
>;

export const posixFallocate = libc.func(
  "int posix_fallocate(int fd, int64_t offset, int64_t length)",
) as Native<[fd: number, offset: number, length: number]>;

export const schedSetaffinity = libc.func(
  "int sched_setaffinity(int pid, size_t length, void *mask)",
) as Native<[thread: number, length: number, mask: Uint8Array]>;

/** `syscall(2)` with the argument types of futex(2), which has no wrapper in the C library. */
export const futex = libc.func(
  "long syscall(long number, void *word, int operation, int value, " +
    "void *timeout, void *word2, int value3)",
) as Native<
  [
    call: number,
    word: bigint,
    operation: number,
    value: number,
    timeout: BigInt64Array | null,
    word2: null,
    value3: number,
  ]
>;

/** `syscall(2)` with the argument types of futex_waitv(2). */
export const futexWaitv = libc.func(
  "long syscall(long number, void *waiters, unsigned int count, unsigned int flags, " +
    "void *deadline, int clock)",
) as Native<
  [
    call: number,
    waiters: BigUint64Array,
    count: number,
    flags: number,
    deadline: BigInt64Array,
    clock: number,
  ]
>;

/** `syscall(2)` with the argument types of mbind(2), whose wrapper is in a library of its own. */
export const mbind = libc.func(
  "long syscall(long number, void *addr, size_t length, long mode, " +
    "void *nodes, unsigned long nodesMax, unsigned long flags)",
) as Native<
  [
    call: number,
    address: bigint,
    length: number,
    mode: number,
    nodes: Uint8Array,
    nodesMax: number,
    flags: number,
  ]
>;

/** The ArrayBuffer over `length` bytes of memory at `address`. Valid in every thread. */
export function viewMemory(address: bigint, length: number): ArrayBuffer {
  return koffi.view(address, length);
}

/** Where the buffer is. It stays there as long as it is in use. */
export function addressOf(buffer: ArrayBuffer): bigint {
  return koffi.address(buffer);
}

/** errno of the last blocking call of this thread. */
export function lastErrno(): number {
  return koffi.errno();
}

/** The error for a failed call, with errno by name where the system has one. */
export function systemCallFailed(what: string, errno: number): GaplessError {
  return new GaplessError("SYSTEM_CALL_FAILED", `${what} failed: errno=${errnoName(errno)}.`);
}

/** "EINVAL" for 22; the number itself where it has no name. */
export function errnoName(errno: number): string {
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0];
  return name ?? String(errno);
}
