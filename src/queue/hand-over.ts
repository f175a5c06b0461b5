/**
 * A subscriber that one thread has opened, on its way to another one of the same process, which
 * takes it over without a system call. An address is good in every thread.
 */
import path from "node:path";
import { adoptMapping, type MappedMemory } from "../memory/mapping.ts";
import { controlFileName, controlOf } from "./control.ts";
import { segmentFileName } from "./layout.ts";
import { ReaderFile, type HandedReaderFile } from "./reader-file.ts";
import { segmentOf } from "./segment.ts";
import { nowhere } from "./spot.ts";
import { Subscriber } from "./subscriber.ts";
import { resolveSubscriberOptions, type SubscriberOptions } from "./subscriber-options.ts";

/** Whoever gets it adopts it, or nobody reads as its name until the process ends. */
export interface HandedSubscriber {
  readonly directory: string;
  readonly name: string;
  readonly control: MappedMemory;
  readonly file: HandedReaderFile;
  readonly spot: {
    readonly number: number;
    /** undefined where it is in front of the first segment. */
    readonly memory: MappedMemory | undefined;
    readonly offset: number;
    readonly sequence: number;
    readonly epoch: number;
  };
}

/**
 * Goes on with a subscriber that another thread of this process has handed over.
 *
 * @throws GaplessError STORAGE_CORRUPT where a header was damaged since; CONFIG_INVALID
 */
export function adoptSubscriber(
  handed: HandedSubscriber,
  options: SubscriberOptions = {},
): Subscriber {
  const { directory, name, file } = handed;
  const { number, memory, offset, sequence, epoch } = handed.spot;
  const resolved = resolveSubscriberOptions(directory, options);
  const controlPath = path.join(directory, controlFileName);
  const control = controlOf(adoptMapping(handed.control, controlPath), controlPath);
  const { identity } = control;
  const readerFile = new ReaderFile(directory, name, identity, file);
  try {
    const filePath = path.join(directory, segmentFileName(number));
    const segment =
      memory === undefined
        ? nowhere(number)
        : segmentOf(adoptMapping(memory, filePath), filePath, number, identity);
    const spot = { segment, offset, sequence, epoch };
    return new Subscriber({ directory, control }, readerFile, resolved, spot);
  } catch (error) {
    readerFile.close();
    control.mapping.unmap();
    throw error;
  }
}
