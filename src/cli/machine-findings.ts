/** What a machine lacks for channels, and how to set it: pure, from the facts of the machine. */
import type { MachineFacts } from "../memory/facts.ts";

export interface Finding {
  readonly subject: string;
  /** How it is now. */
  readonly found: string;
  /** What it does for a channel. */
  readonly why: string;
  /** What sets it; undefined where it is as it should be. */
  readonly advice: Advice | undefined;
}

export interface Advice {
  /** Commands for root's shell, which last until the next boot. */
  readonly now?: readonly string[];
  /** What outlives a boot: commands, or what to write where. */
  readonly always: readonly string[];
}

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const sharedMemory = "/dev/shm";
const roomBytesMin = gibibyte;
/** Fewer leave nothing to isolate: the system, and every service that is not pinned, need some. */
const isolatableCpusMin = 4;

export function examineMachine(facts: MachineFacts): Finding[] {
  return [
    examineKernel(facts),
    examineRoom(facts),
    examineHugePages(facts),
    examineTransparentHugePages(facts),
    examineNodes(facts),
    examineIsolation(facts),
    examineGovernor(facts),
    examineSwap(facts),
  ];
}

function examineKernel({ kernel }: MachineFacts): Finding {
  const isGood = isAtLeast(kernel, 6, 1);
  return {
    subject: "kernel",
    found: kernel,
    why: "prefault came with 5.14, futex_waitv with 5.16, huge pages on demand with 6.1",
    advice: isGood ? undefined : { always: ["a distribution with Linux 6.1 or newer"] },
  };
}

function examineRoom({ directory }: MachineFacts): Finding {
  const { path, mountedAt, type, bytesTotal, bytesFree } = directory;
  const isMemory = type === "tmpfs";
  const isGood = isMemory && bytesFree >= roomBytesMin;
  const found = `${formatBytes(bytesFree)} free of ${formatBytes(bytesTotal)}, ${type}`;
  return {
    subject: path,
    found: isMemory ? found : `${found}, not in memory`,
    why: isMemory
      ? "a channel reserves all of its buffer_size, and does not open where there is no room"
      : "a disk's file system stops the producer while it writes a page back",
    advice: isGood ? undefined : isMemory ? enlarge(mountedAt, bytesTotal) : moveToMemory(),
  };
}

function enlarge(mountedAt: string, bytesTotal: number): Advice {
  const gibibytes = Math.ceil(bytesTotal / gibibyte) + 2;
  const size = `size=${gibibytes}G`;
  return {
    now: [`mount -o remount,${size} ${mountedAt}`],
    always: [
      `in /etc/fstab: tmpfs ${mountedAt} tmpfs nosuid,nodev,${size} 0 0`,
      `in a container: docker run --shm-size=${gibibytes}g, or an emptyDir with medium: Memory`,
    ],
  };
}

function moveToMemory(): Advice {
  return { always: [`give the bus a directory in ${sharedMemory}`] };
}

function examineHugePages(facts: MachineFacts): Finding {
  const { hugePagePools, hugePageMounts } = facts;
  const reserved = hugePagePools.filter(({ pagesTotal, pagesFree }) => pagesTotal + pagesFree > 0);
  const usable = hugePageMounts.filter((mount) =>
    reserved.some(({ pageBytes }) => pageBytes === mount.pageBytes),
  );
  const isGood = usable.length > 0;
  const pools = reserved.map(
    ({ pageBytes, pagesTotal, pagesFree }) =>
      `${pagesFree} free of ${pagesTotal} of ${formatBytes(pageBytes)}`,
  );
  const places = usable.map(({ directory }) => directory).join(", ");
  return {
    subject: "huge pages",
    found:
      reserved.length === 0
        ? "none reserved"
        : `${pools.join(", ")}; ${isGood ? `in ${places}` : "mounted nowhere that you may write"}`,
    why: "a ring of 64 MB is 32 entries of the address cache instead of 16384",
    advice: isGood ? undefined : reserveHugePages(reserved[0]?.pageBytes, facts),
  };
}

/** Pages that are reserved already only lack a place. */
function reserveHugePages(pageBytes: number | undefined, facts: MachineFacts): Advice {
  if (facts.hugePagePools.length === 0) return { always: ["a kernel with CONFIG_HUGETLBFS"] };
  const place = "/dev/hugepages";
  const pagesize = `pagesize=${(pageBytes ?? 2 * mebibyte) / mebibyte}M`;
  const options = `${pagesize},mode=0770,gid=${facts.groupId}`;
  const setting = "vm.nr_hugepages=256";
  const isReserved = pageBytes !== undefined;
  return {
    now: [
      ...(isReserved ? [] : [`sysctl ${setting}`]),
      `mkdir -p ${place}`,
      `mount -t hugetlbfs -o ${options} none ${place}`,
    ],
    always: [
      ...(isReserved ? [] : [`echo ${setting} > /etc/sysctl.d/60-gapless.conf`]),
      `in /etc/fstab: none ${place} hugetlbfs ${options} 0 0`,
    ],
  };
}

function examineTransparentHugePages(facts: MachineFacts): Finding {
  return {
    subject: "transparent huge pages",
    why: "fewer entries of the address cache a ring too, without setting pages aside",
    ...judgeTransparentHugePages(facts),
  };
}

function judgeTransparentHugePages(facts: MachineFacts): Pick<Finding, "found" | "advice"> {
  const { kernel, sharedHugePages } = facts;
  const { mountedAt, type, options } = facts.directory;
  if (sharedHugePages === undefined) {
    const always = ["a kernel with CONFIG_TRANSPARENT_HUGEPAGE"];
    return { found: "not in this kernel", advice: { always } };
  }
  if (sharedHugePages === "deny") {
    const file = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    const always = ["in /etc/tmpfiles.d/gapless.conf:", `  w ${file} - - - - never`];
    return { found: "denied", advice: { now: [`echo never > ${file}`], always } };
  }
  if (type !== "tmpfs") return { found: `not made in ${type}`, advice: moveToMemory() };
  const isMounted = options.includes("huge=always") || options.includes("huge=within_size");
  if (isAtLeast(kernel, 6, 1) || isMounted) {
    return { found: "made for each channel that wishes for them", advice: undefined };
  }
  return {
    found: `not made in ${mountedAt} as it is mounted`,
    advice: {
      now: [`mount -o remount,huge=within_size ${mountedAt}`],
      always: [`in /etc/fstab: tmpfs ${mountedAt} tmpfs nosuid,nodev,huge=within_size 0 0`],
    },
  };
}

function examineNodes({ numaNodes }: MachineFacts): Finding {
  const isGood = numaNodes.length <= 1;
  return {
    subject: "NUMA nodes",
    found: isGood ? "one: all memory is near" : `${numaNodes.length}: ${numaNodes.join(", ")}`,
    why: "memory of another node costs about twice as much a miss",
    advice: isGood
      ? undefined
      : {
          now: ["cat /sys/devices/system/node/node*/cpulist"],
          always: ["set a channel's numa_node to the node of the cores that its ends run on"],
        },
  };
}

function examineIsolation({ cpus, isolatedCpus, ticklessCpus }: MachineFacts): Finding {
  const isGood = isolatedCpus.length > 0 && ticklessCpus.length > 0;
  const isolated = formatNumbers(isolatedCpus) || "none";
  const tickless = formatNumbers(ticklessCpus) || "none";
  return {
    subject: "isolated CPUs",
    found: `${isolated} of ${cpus.length}; without timer interrupts: ${tickless}`,
    why: "whoever spins on a core that others run on waits milliseconds for them",
    advice: isGood ? undefined : isolate(cpus, isolatedCpus),
  };
}

function isolate(cpus: readonly number[], isolatedCpus: readonly number[]): Advice {
  if (cpus.length < isolatableCpusMin) {
    return {
      always: [`on less than ${isolatableCpusMin} CPUs none can be spared: let subscribers sleep`],
    };
  }
  const spared = isolatedCpus.length > 0 ? isolatedCpus : cpus.slice(Math.ceil(cpus.length / 2));
  const list = formatNumbers(spared);
  return {
    always: [
      "in /etc/default/grub, to GRUB_CMDLINE_LINUX add:",
      `  isolcpus=domain,managed_irq,${list} nohz_full=${list} rcu_nocbs=${list}`,
      "update-grub && reboot",
    ],
  };
}

function examineGovernor({ governors }: MachineFacts): Finding {
  const isGood = governors.every((governor) => governor === "performance");
  const files = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
  return {
    subject: "CPU frequency",
    found: governors.length === 0 ? "not visible: the host decides" : governors.join(", "),
    why: "a core that was slowed down while it slept is slow for the first messages after",
    advice: isGood
      ? undefined
      : {
          now: [`echo performance | tee ${files}`],
          always: ["in /etc/tmpfiles.d/gapless.conf:", `  w ${files} - - - - performance`],
        },
  };
}

function examineSwap({ swaps }: MachineFacts): Finding {
  const isGood = swaps.length === 0;
  return {
    subject: "swap",
    found: isGood ? "off" : swaps.join(", "),
    why: `${sharedMemory} is swapped out too, and a page comes back in milliseconds`,
    advice: isGood
      ? undefined
      : {
          now: ["swapoff -a"],
          always: ["remove the lines of type swap from /etc/fstab, or set huge_pages"],
        },
  };
}

function isAtLeast(kernel: string, major: number, minor: number): boolean {
  const [foundMajor = 0, foundMinor = 0] = kernel.split(/[.-]/).map(Number);
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

/** 0, 2, 3, 4 as "0,2-4", which the kernel reads too. */
function formatNumbers(numbers: readonly number[]): string {
  const ranges: { first: number; last: number }[] = [];
  for (const number of numbers) {
    const range = ranges.at(-1);
    if (range !== undefined && range.last === number - 1) range.last = number;
    else ranges.push({ first: number, last: number });
  }
  return ranges
    .map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`))
    .join(",");
}

function formatBytes(bytes: number): string {
  const [unit, name] = bytes >= gibibyte ? [gibibyte, "GB"] : [mebibyte, "MB"];
  return `${Math.floor((bytes / unit) * 10) / 10} ${name}`;
}
