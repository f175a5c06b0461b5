/**
 * What a machine that loses its power can leave of the files of a directory.
 *
 * While a scene is played, the files are looked at again and again: after each step that is
 * published, and before each sync. Of a file the disk then has what it had at its last sync, and
 * of each sector that was changed since, any of the contents that were seen: writes go to the disk
 * in any order, whole sectors at a time. A name that was made or removed since the directory's
 * last sync is there or not.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import fs from "node:fs";
import path from "node:path";
import { stepChannelName } from "../../src/steps.ts";

const sectorBytes = 512;

type Files = ReadonlyMap<string, Buffer>;

/** Picks one of so many: 0 is the oldest, what was there at the last sync. */
export type Choose = (count: number) => number;

export class Recording {
  private readonly directory: string;
  /** Contents by inode, oldest first, since the last sync. */
  private readonly versions = new Map<bigint, Buffer[]>();
  /** Names at the last sync of the directory, and those that were seen since. */
  private durableNames = new Map<string, bigint>();
  private readonly names: Map<string, bigint>[] = [];
  private readonly undo: (() => void)[] = [];

  private readonly handles: fs.promises.FileHandle;

  private constructor(directory: string, handles: fs.promises.FileHandle) {
    this.directory = directory;
    this.handles = handles;
    const look = (): void => this.look();
    subscribe(stepChannelName, look);
    this.undo.push(() => unsubscribe(stepChannelName, look));
    this.watchSyncs();
  }

  static async start(directory: string): Promise<Recording> {
    await using some = await fs.promises.open(directory);
    return new Recording(directory, Object.getPrototypeOf(some) as fs.promises.FileHandle);
  }

  /** Looks at all files now. */
  look(): void {
    const names = new Map<string, bigint>();
    for (const name of fs.readdirSync(this.directory)) {
      const file = path.join(this.directory, name);
      const found = fs.statSync(file, { bigint: true });
      if (!found.isFile()) continue;
      const { ino } = found;
      names.set(name, ino);
      const content = fs.readFileSync(file);
      const versions = this.versions.get(ino) ?? [Buffer.alloc(content.length)];
      if (versions.at(-1)?.equals(content) !== true) versions.push(content);
      this.versions.set(ino, versions);
    }
    this.names.push(names);
  }

  /** Everything is on the disk. */
  settle(): void {
    this.look();
    for (const [inode, versions] of this.versions) this.versions.set(inode, versions.slice(-1));
    this.settleNames();
  }

  /** What the disk may have now. */
  lose(choose: Choose): Files {
    this.look();
    const files = new Map<string, Buffer>();
    const everyName = new Set(
      [this.durableNames, ...this.names].flatMap((names) => [...names.keys()]),
    );
    for (const name of everyName) {
      // Any of the inodes that had the name, or none, if at some time none had it.
      const holders = [this.durableNames, ...this.names].map((names) => names.get(name));
      const inode = holders[choose(holders.length)];
      if (inode !== undefined) files.set(name, this.contentOf(inode, choose));
    }
    return files;
  }

  [Symbol.dispose](): void {
    for (const undo of this.undo) undo();
  }

  private contentOf(inode: bigint, choose: Choose): Buffer {
    const versions = this.versions.get(inode) ?? [];
    const content = Buffer.from(versions[0] ?? []);
    for (let at = 0; at < content.length; at += sectorBytes) {
      const end = at + sectorBytes;
      const seen = versions.filter(
        (version, index) =>
          index === 0 ||
          versions[index - 1]?.subarray(at, end).equals(version.subarray(at, end)) !== true,
      );
      seen[choose(seen.length)]?.copy(content, at, at, end);
    }
    return content;
  }

  private settleNames(): void {
    this.durableNames = this.names.at(-1) ?? new Map<string, bigint>();
    this.names.length = 0;
  }

  /** Sees each sync: what was there when it began is on the disk once it has returned. */
  private watchSyncs(): void {
    const { fsyncSync } = fs;
    fs.fsyncSync = (fd) => {
      const done = this.begin(fd);
      fsyncSync(fd);
      done();
    };
    const { handles } = this;
    // Called with its handle below.
    // eslint-disable-next-line @typescript-eslint/unbound-method
    const { datasync } = handles;
    const begin = (fd: number): (() => void) => this.begin(fd);
    handles.datasync = async function (this: fs.promises.FileHandle): Promise<void> {
      const done = begin(this.fd);
      await datasync.call(this);
      done();
    };
    this.undo.push(() => {
      fs.fsyncSync = fsyncSync;
      handles.datasync = datasync;
    });
  }

  private begin(fd: number): () => void {
    this.look();
    const { ino } = fs.fstatSync(fd, { bigint: true });
    const before = this.versions.get(ino)?.length ?? 0;
    if (fs.statSync(this.directory, { bigint: true }).ino === ino) return () => this.settleNames();
    return () => {
      const versions = this.versions.get(ino) ?? [];
      // Nothing else can have shortened it: syncs of one file do not overlap.
      this.versions.set(ino, versions.slice(Math.max(0, before - 1)));
    };
  }
}
