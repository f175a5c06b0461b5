/**
 * The threads that send and receive have a core each, those of the bus benchmark: left alone, the
 * kernel puts both on one core or on two, and each run measures something else. They are pinned
 * once a way is open, so that what it brings (threads of its own, a server) runs on any core.
 */
import os from "node:os";
import { pinThread } from "../../src/memory/affinity.ts";
import { schedSetaffinity } from "../../src/memory/libc.ts";

const farCore = os.cpus().length > 1 ? 1 : 0;

export function pinNearEnd(): void {
  pinThread(0);
}

export function pinFarEnd(): void {
  pinThread(farCore);
}

/** Lets the calling thread, and what it starts from now on, run on every core. */
export function unpin(): void {
  const callingThread = 0;
  const mask = new Uint8Array(128).fill(0xff);
  schedSetaffinity(callingThread, mask.length, mask);
}
