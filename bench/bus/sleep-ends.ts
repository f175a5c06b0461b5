/** A consumer that has nothing to do. */
import { bootNs } from "../../src/clock.ts";
import type { Role } from "./member.ts";
import { channelName } from "./throughput-ends.ts";

const waitMs = 1000;

/** For as many milliseconds as it is told messages. */
export const idle: Role = (bus, { wait, blocks }) => {
  const subscriber = bus.subscriber(channelName, { wait });
  return async (milliseconds) => {
    const startNs = bootNs();
    const before = process.cpuUsage();
    for (let leftMs = milliseconds; leftMs > 0; leftMs = milliseconds - sinceMs(startNs)) {
      if (blocks) subscriber.waitBlocking(Math.min(waitMs, leftMs));
      else await subscriber.wait(Math.min(waitMs, leftMs));
    }
    const { user, system } = process.cpuUsage(before);
    const endNs = bootNs();
    const cpuPercent = ((user + system) * 1000 * 100) / (endNs - startNs);
    return { startNs, endNs, sum: 0, cpuPercent };
  };
};

function sinceMs(startNs: number): number {
  return (bootNs() - startNs) / 1e6;
}
