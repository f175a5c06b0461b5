/**
 * What an operator wants to be told of a channel, published on the diagnostics channel
 * `gapless:bus` by the process that it happens in. None of it happens in the course of a message
 * that goes its way, and where nobody subscribes it costs one property load.
 *
 *     diagnostics_channel.subscribe(busChannelName, (event) => log(event as BusEvent));
 */
import { channel } from "node:diagnostics_channel";
import type { UnmetWish } from "../memory/wishes.ts";
import type { Lane } from "./lane.ts";
import type { Loss } from "./losses.ts";

/** The diagnostics channel that `BusEvent`s are published on. */
export const busChannelName = "gapless:bus";

interface EventPlace {
  readonly channel: string;
  /** The lane, by its level of priority. */
  readonly priority: number;
}

/**
 *   wish unmet        the channel is open in this process, without something that it wished for
 *   consumer failed   this producer goes on without a consumer, which misses what follows `from`
 *   loss              this process has recorded that messages are lost; where more and more are, it
 *                     is told when that begins
 *   failover          this producer writes instead of another one, from here on
 */
export type BusEvent =
  | ({ readonly event: "wish unmet"; readonly channel: string } & UnmetWish)
  | ({
      readonly event: "consumer failed";
      readonly consumer: string;
      /** First sequence that it has not released. */
      readonly from: number;
    } & EventPlace)
  | ({ readonly event: "loss"; readonly loss: Loss } & EventPlace)
  | ({ readonly event: "failover"; readonly from: string; readonly to: string } & EventPlace);

const events = channel(busChannelName);

export function announceBusEvent(describe: () => BusEvent): void {
  if (events.hasSubscribers) events.publish(describe());
}

export function placeOf(lane: Lane): EventPlace {
  return { channel: lane.channel.name, priority: lane.priority };
}
