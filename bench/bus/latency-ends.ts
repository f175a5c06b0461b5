/** The ends of the latency benchmarks: question and answer, and messages at a steady pace. */
import type { MessageHandler } from "gapless/bus";
import { bootNs } from "../../src/clock.ts";
import type { Role } from "./member.ts";
import { leaveOrphaned, leaveOrphanedNow } from "./orphan.ts";
import { percentilesOf } from "../samples.ts";
import { channelName, fill, summing } from "./throughput-ends.ts";

export const backName = "back";
/** Before the first message of a pass is due, so that both ends are there. */
const headStartNs = 20e6;
/** What is further away than this is slept for. */
const napNs = 200_000;
const wakeUpNs = 100_000;
const waitMs = 1000;
/** What the first messages meet is code that is not compiled yet. */
const warmUpShare = 0.2;

const pillow = new Int32Array(new SharedArrayBuffer(4));

export const ask: Role = (bus, { payloadBytes }) => {
  const publisher = bus.publisher(channelName);
  const subscriber = bus.subscriber(backName);
  const template = new Uint8Array(payloadBytes);
  const answered = new Float64Array(1);
  // Made once: a closure a poll would have the garbage collector stop the loop now and then.
  const handler: MessageHandler = ({ doubles }, offset) => {
    answered[0] = doubles[offset >>> 3] ?? -1;
  };
  return (messages) => {
    const times = new Float64Array(messages);
    const startNs = bootNs();
    let sum = 0;
    for (let message = 0; message < messages; message++) {
      const before = performance.now();
      sum += fill(publisher.memory, publisher.claim(payloadBytes), template, message);
      publisher.commit();
      while (subscriber.poll(handler, 1) === 0) leaveOrphaned();
      subscriber.release();
      times[message] = (performance.now() - before) * 1e6;
      if (answered[0] !== message) throw new Error(`another answer: ${answered[0] ?? ""}`);
    }
    const there = percentilesOf(times.subarray(messages * warmUpShare));
    return { startNs, endNs: bootNs(), sum, latency: { there } };
  };
};

export const answer: Role = (bus, { payloadBytes }) => {
  const subscriber = bus.subscriber(channelName);
  const publisher = bus.publisher(backName);
  const template = new Uint8Array(payloadBytes);
  const sum = new Float64Array(1);
  const handler = summing(sum);
  return (messages) => {
    const startNs = bootNs();
    sum[0] = 0;
    for (let message = 0; message < messages; message++) {
      while (subscriber.poll(handler, 1) === 0) leaveOrphaned();
      subscriber.release();
      fill(publisher.memory, publisher.claim(payloadBytes), template, message);
      publisher.commit();
    }
    return { startNs, endNs: bootNs(), sum: sum[0] };
  };
};

/**
 * Sends when a message is due, or as soon after that as it can. A message says when it was due:
 * what delays the sender counts as delay of every message that it delays.
 */
export const send: Role = (bus, { payloadBytes, intervalMs }) => {
  const publisher = bus.publisher(channelName);
  const template = new Uint8Array(payloadBytes);
  return (messages) => {
    const times = new Float64Array(messages);
    const startNs = bootNs();
    for (let message = 0, dueNs = startNs + headStartNs; message < messages; message++) {
      waitUntil(dueNs);
      const beforeNs = bootNs();
      let offset = publisher.claim(payloadBytes);
      while (offset < 0) {
        leaveOrphaned();
        offset = publisher.claim(payloadBytes);
      }
      const { bytes, doubles } = publisher.memory;
      bytes.set(template, offset);
      doubles[offset >>> 3] = dueNs;
      publisher.commit();
      times[message] = bootNs() - beforeNs;
      dueNs += intervalMs * 1e6;
    }
    const write = percentilesOf(times.subarray(messages * warmUpShare));
    return { startNs, endNs: bootNs(), sum: 0, latency: { write } };
  };
};

function waitUntil(dueNs: number): void {
  for (let leftNs = dueNs - bootNs(); leftNs > 0; leftNs = dueNs - bootNs()) {
    if (leftNs > napNs) Atomics.wait(pillow, 0, 0, (leftNs - wakeUpNs) / 1e6);
  }
}

export const receive: Role = (bus, { wait, blocks }) => {
  const subscriber = bus.subscriber(channelName, { wait });
  const latency = new Float64Array(1);
  const handler: MessageHandler = ({ doubles }, offset) => {
    latency[0] = bootNs() - (doubles[offset >>> 3] ?? 0);
  };
  return async (messages) => {
    const arrivals = new Float64Array(messages);
    const reads = new Float64Array(messages);
    const startNs = bootNs();
    let taken = 0;
    while (taken < messages) {
      const beforeNs = bootNs();
      if (subscriber.poll(handler, 1) > 0) {
        subscriber.release();
        arrivals[taken] = latency[0] ?? NaN;
        reads[taken++] = bootNs() - beforeNs;
      } else if (wait === "busy-spin") leaveOrphaned();
      else {
        if (blocks) subscriber.waitBlocking(waitMs);
        else await subscriber.wait(waitMs);
        if (subscriber.lag === 0) leaveOrphanedNow();
      }
    }
    const first = messages * warmUpShare;
    const [endToEnd, read] = [arrivals, reads].map((times) => percentilesOf(times.subarray(first)));
    const found = endToEnd && read && { latency: { endToEnd, read } };
    return { startNs, endNs: bootNs(), sum: 0, ...found };
  };
};
