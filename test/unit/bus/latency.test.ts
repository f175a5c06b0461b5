/** What is read of a histogram in shared memory. */
import assert from "node:assert/strict";
import test from "node:test";
import { bucketOf, latencyBuckets, readLatency, upperNs } from "../../../src/bus/latency.ts";

test("a bucket of more than 2^31 messages counts as what it is", () => {
  const words = new Int32Array(latencyBuckets);
  words[bucketOf(100)] = (2 ** 31 + 5) | 0;
  words[bucketOf(5000)] = 2;
  const { count, p50Ns, maxNs, buckets } = readLatency(words, 0);
  assert.equal(count, 2 ** 31 + 7);
  assert.equal(p50Ns, upperNs(bucketOf(100)));
  assert.equal(maxNs, upperNs(bucketOf(5000)));
  assert.deepEqual(
    buckets.map((bucket) => bucket.count),
    [2 ** 31 + 5, 2],
  );
});
