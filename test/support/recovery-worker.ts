/** The recorder of a channel, or a consumer that forgets everything, in a process of its own. */
import fs from "node:fs";
import { recorderService } from "gapless/bus";
import { recordChannel, replayingSubscriber } from "gapless/flow";
import { numberOf, openRecorded, type ChannelChanges } from "./recorded-channel.ts";

export interface RecoveryTask {
  readonly directory: string;
  readonly service: string;
  readonly changes: ChannelChanges;
}

/** What a consumer tells of a batch: the numbers of its first and last message. */
export interface RecoveryReport {
  readonly numbers: readonly number[];
  readonly replayed: number;
  readonly isLive: boolean;
}

const { directory, service, changes } = JSON.parse(process.argv[2] ?? "") as RecoveryTask;
const bus = openRecorded(directory, service, changes);
const never = new AbortController().signal;

if (service === recorderService) {
  // Small segments, so that some are begun.
  await recordChannel(bus, "orders", { signal: never, segmentBytes: 64 * 1024 });
} else {
  const subscriber = replayingSubscriber(bus, "orders", {
    recorderTimeoutMs: 30_000,
    onLoss: (loss) => {
      throw new Error(`lost: ${JSON.stringify(loss)}`);
    },
  });
  for await (const batch of subscriber.batches()) {
    const numbers = batch.map(({ bytes }) => numberOf(bytes));
    const replayed = batch.filter(({ isReplayed }) => isReplayed).length;
    const report: RecoveryReport = { numbers, replayed, isLive: subscriber.isLive };
    fs.writeSync(1, `${JSON.stringify(report)}\n`);
  }
}
