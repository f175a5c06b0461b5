/** Which settings a channel's file was made with that are not those of the configuration. */
import { recorderService } from "./config.ts";
import type { ChannelDescription } from "./description.ts";

/**
 * A clause for each key that differs, in the words of the configuration: what it is in the file,
 * and what in the configuration. Of a file that tells no names and rules, as far as its header has
 * numbers; where those are the same, there is no clause.
 */
export function disagreements(file: ChannelDescription, config: ChannelDescription): string[] {
  const [found, expected] = file.isDescribed
    ? [settingsOf(file), settingsOf(config)]
    : [numbersOf(file), numbersOf(config)];
  return Object.keys(expected)
    .map((key) => [key, textOf(found[key]), textOf(expected[key])] as const)
    .filter(([, inFile, inConfig]) => inFile !== inConfig)
    .map(([key, inFile, inConfig]) => {
      return `${key} is ${inFile} in the file and ${inConfig} in the configuration`;
    });
}

type Setting = string | number | boolean | readonly string[] | undefined;
type Settings = Readonly<Record<string, Setting>>;

/** By the keys of a channel's table. The recorder is a consumer that no list of them names. */
function settingsOf(description: ChannelDescription): Settings {
  const { producers, consumers, hasBackup } = description;
  const persists = consumers.at(-1) === recorderService;
  return {
    type: description.type,
    producers: hasBackup ? producers.slice(0, -1) : producers,
    backup_producer: hasBackup ? producers.at(-1) : undefined,
    consumers: persists ? consumers.slice(0, -1) : consumers,
    ...sizesOf(description),
    failed_consumer: description.failedConsumer,
    "backpressure.mode": description.backpressure,
    "recovery.enable_persistence": persists,
  };
}

function numbersOf(description: ChannelDescription): Settings {
  return {
    "the number of producers": description.producers.length,
    "the number of consumers": description.consumers.length,
    ...sizesOf(description),
  };
}

function sizesOf({ ringBytes, messageBytesMax, priorities }: ChannelDescription): Settings {
  return { buffer_size: ringBytes, message_size_max: messageBytesMax, priorities };
}

function textOf(setting: Setting): string {
  return setting === undefined ? "nobody" : JSON.stringify(setting);
}
