/** Who speaks of what: the domains, the types that each may carry, and which are checksummed. */

/** The domains by the number that a header has. */
export const domains = { marketData: 1, signal: 2, execution: 3, system: 4 } as const;

/** The name of a domain. */
export type DomainName = keyof typeof domains;

/** Names by number; nothing is at 0. */
export const domainNames: readonly (DomainName | undefined)[] = [
  undefined,
  "marketData",
  "signal",
  "execution",
  "system",
];

/** Types from 80 to 119 are the system's, and those behind them the applications'. */
const everywhere = [80, 254] as const;

const ownRanges: Readonly<Record<DomainName, readonly (readonly [first: number, last: number])[]>> =
  {
    marketData: [[1, 19]],
    signal: [
      [20, 39],
      [60, 79],
    ],
    execution: [[40, 59]],
    system: [],
  };

/** For each type 1 where a message of `domain` may carry it, else 0. */
export function typesCarriedBy(domain: DomainName): Uint8Array {
  const carried = new Uint8Array(256);
  for (const [first, last] of [...ownRanges[domain], everywhere]) carried.fill(1, first, last + 1);
  return carried;
}

/** Whether messages of a domain have a checksum. Both ends of a channel need the same policy. */
export type ChecksumPolicy = Readonly<Record<DomainName, boolean>>;

/** Market data is the fastest and is soon replaced by newer; of all else every message counts. */
export const defaultChecksums: ChecksumPolicy = {
  marketData: false,
  signal: true,
  execution: true,
  system: true,
};

/** The policy by the number of a domain, with the default for what `checksums` does not name. */
export function checksumsByDomain(checksums: Partial<ChecksumPolicy> = {}): readonly boolean[] {
  const policy = { ...defaultChecksums, ...checksums };
  return domainNames.map((name) => name !== undefined && policy[name]);
}
