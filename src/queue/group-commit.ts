/** Many who wait for the device, and one sync for all of them. */

export class GroupCommit {
  private readonly sync: () => Promise<void>;
  /** The sync that is under way, and the one that begins behind it. */
  private current: Promise<void> = Promise.resolve();
  private next: Promise<void> | undefined;

  /** `sync` makes durable what is there when it is called; two never run at once. */
  constructor(sync: () => Promise<void>) {
    this.sync = sync;
  }

  /**
   * Resolves when what is there now is durable. What is under way may have begun before it was
   * there, so all who come meanwhile share the sync behind it.
   */
  flush(): Promise<void> {
    this.next ??= this.current.then(
      () => this.begin(),
      () => this.begin(),
    );
    return this.next;
  }

  /** Resolves when no sync is under way, whatever became of those that were. */
  async idle(): Promise<void> {
    await Promise.allSettled([this.next]);
    await Promise.allSettled([this.current]);
  }

  private begin(): Promise<void> {
    this.next = undefined;
    this.current = this.sync();
    return this.current;
  }
}
