/**
 * Seeded pseudo-random whole numbers: the same seed gives the same run on every machine.
 * Algorithm: Marsaglia's xorshift32 (Journal of Statistical Software 8, 2003), the seed mixed by
 * the finaliser of MurmurHash3.
 */
export interface Random {
  /** A whole number from 0 up to, and without, `bound`, which is at most 2^32. */
  below(bound: number): number;
}

/** The numbers of a seed, which is taken modulo 2^32. */
export function seededRandom(seed: number): Random {
  let state = mix(seed) || 1;
  return {
    below(bound) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      // The high bits of the product: an unbiased share for bounds far below 2^32.
      return Math.floor(((state >>> 0) / 2 ** 32) * bound);
    },
  };
}

function mix(seed: number): number {
  let value = seed | 0;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
}
