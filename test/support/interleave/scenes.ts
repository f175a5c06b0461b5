/**
 * The scenes that are played in all ways: who is there, what each does, and what came before.
 *
 * The ring has 64 units, and a record 4 to 8 of them, so that few messages go round it. It is aged
 * by messages that everybody took, so that what is played wraps around where the scene wants it.
 */
import type { Channel } from "../../../src/bus/config.ts";
import { bodyOf, consume, produce, type Consuming, type Producing } from "./cast.ts";
import { Ledger, type Range, type Taken } from "./ledger.ts";
import type { Play } from "./scheduler.ts";
import { Party, Stage, type Offering, type Steps, type Taking } from "./stage.ts";
import type { SourceEdit } from "./transform.ts";

export interface ProducerRole extends Producing {
  readonly producer: number;
}

export interface ConsumerRole extends Consuming {
  readonly consumer: number;
}

export interface Scene {
  readonly name: string;
  readonly producers: number;
  readonly consumers: number;
  readonly channel?: Partial<Channel>;
  /** Bytes of messages that came before and were taken. */
  readonly before?: readonly number[];
  /** Bytes of messages that came after those and wait to be taken. */
  readonly backlog?: readonly number[];
  readonly producing: readonly ProducerRole[];
  readonly consuming: readonly ConsumerRole[];
  /** Names of parties that may be killed; each is followed by an heir, where there is one. */
  readonly mortal?: readonly string[];
  /** Producers that come when another of the same end is dead, or take over from it. */
  readonly heirs?: readonly (ProducerRole & { readonly comes: "after death" | "to take over" })[];
  /** Consumers that come when another of the same end is dead. */
  readonly consumingHeirs?: readonly ConsumerRole[];
  readonly isImpatient?: boolean;
  /** Ends are opened step by step as well, not before everything else. */
  readonly opensInPlay?: boolean;
}

const ringBytes = 512;

export function channelOf(scene: Scene): Channel {
  const name = (kind: string, count: number): string[] =>
    Array.from({ length: count }, (_unused, index) => `${kind}${index}`);
  return {
    name: "trades",
    type: scene.producers > 1 ? "MPMC" : "SPMC",
    producers: name("producer", scene.producers),
    hasBackup: false,
    consumers: name("consumer", scene.consumers),
    ringBytes,
    messageBytesMax: ringBytes / 8 - 16,
    priorities: 1,
    backpressure: { mode: "Reject", highWater: 1, lowWater: 1 },
    failedConsumer: "wait",
    consumerTimeoutMs: 1000,
    producerTimeoutMs: 1000,
    timestamps: "off",
    hugePages: false,
    numaNode: undefined,
    prefault: false,
    strict: false,
    recovery: undefined,
    ...scene.channel,
  };
}

/** A scene on its stage: `begin` sets everything back. */
export class Theatre {
  readonly stage: Stage;
  private readonly scene: Scene;
  private readonly contents: Int32Array;
  private readonly newestBefore: number;

  constructor(scene: Scene, edits: readonly SourceEdit[] = [], isFine = false) {
    this.scene = scene;
    this.stage = new Stage(channelOf(scene), edits, isFine);
    this.newestBefore = (scene.before ?? []).length;
    this.prepare();
    this.contents = this.stage.memory.snapshot();
  }

  begin = (): Play => {
    const { scene, stage } = this;
    stage.memory.reset(this.contents);
    stage.isImpatient = scene.isImpatient ?? false;
    const ledger = new Ledger(this.newestBefore);
    (scene.backlog ?? []).forEach((_bytes, index) => {
      ledger.begin(backlogId + index).sequence = this.newestBefore + 1 + index;
    });
    stage.parties = [];
    const owners = new Map<Taken, Party>();
    for (const role of scene.consuming) this.addConsumer(ledger, role, owners);
    for (const role of scene.producing) this.addProducer(ledger, role);
    for (const heir of scene.heirs ?? []) this.addHeir(ledger, heir);
    for (const heir of scene.consumingHeirs ?? []) this.addConsumingHeir(ledger, heir, owners);
    const { parties } = stage;
    const mortal = scene.mortal ?? [];
    const overwriting = this.overwrites;
    return {
      parties,
      mortal,
      forgettable: parties
        .map(({ name }) => name)
        .filter((name) => name.startsWith("producer") || /^heir\d/.test(name)),
      facts: (fold) => {
        ledger.facts(fold);
      },
      hasTimeouts: scene.heirs?.some(({ comes }) => comes === "to take over") ?? false,
      verdict: () => {
        const ends = scene.consuming.some((role) => role.ends === true);
        const isStuck = ({ name, state }: Party): boolean =>
          (ends || name.startsWith("producer")) && state !== "done" && state !== "dead";
        const stuck = parties.find(isStuck);
        const death =
          parties.some(({ state }) => state === "dead") || (scene.heirs ?? []).length > 0;
        const wrong = ledger.verdict({ overwriting, death }, (taken) => {
          return owners.get(taken)?.state !== "dead";
        });
        if (wrong !== undefined) return wrong;
        return stuck === undefined ? undefined : `stuck: ${stuck.name}`;
      },
    };
  };

  private get overwrites(): boolean {
    const { channel } = this.stage.lane;
    return channel.backpressure.mode === "DropOldest" || channel.failedConsumer === "evict";
  }

  private add(name: string, body: () => Steps<void>): Party {
    const party = new Party(name, 100 + this.stage.parties.length, body);
    this.stage.parties.push(party);
    return party;
  }

  private addProducer(ledger: Ledger, role: ProducerRole): void {
    const open = (): Steps<Offering> =>
      new this.stage.ring.Publisher().$open(this.stage.lane, role.producer);
    this.openFor(`producer${role.producer}`, open, (publisher) => produce(ledger, publisher, role));
  }

  private addConsumer(ledger: Ledger, role: ConsumerRole, owners: Map<Taken, Party>): void {
    const { stage } = this;
    const taken = ledger.follow(`consumer${role.consumer}`);
    const party = this.openFor(
      `consumer${role.consumer}`,
      () => this.subscribe(role, taken),
      (subscriber) => consume(stage, subscriber, taken, role),
    );
    owners.set(taken, party);
  }

  private subscribe(role: ConsumerRole, taken: Taken): Steps<Taking> {
    const onLoss = (loss: { from: number; to: number }): void => {
      taken.pending.losses.push({ from: loss.from, to: loss.to });
    };
    const onWithdrawn = (range: Range): void => {
      taken.pending.withdrawn.push(range);
    };
    return new this.stage.ring.Subscriber().$open([this.stage.lane], role.consumer, {
      topics: [],
      onLoss,
      onWithdrawn,
      strategy: "park",
      spinMicros: 0,
    });
  }

  /** Opens an end, before the play or in it. */
  private openFor<End>(
    name: string,
    open: () => Steps<End>,
    act: (end: End) => Steps<void>,
  ): Party {
    const { stage } = this;
    if (this.scene.opensInPlay === true) {
      return this.add(name, function* () {
        yield* act(yield* open());
      });
    }
    const opened: End[] = [];
    const party = this.add(name, function* () {
      for (const end of opened) yield* act(end);
    });
    stage.current = party;
    stage.memory.reader = party.read;
    opened.push(stage.drain(open()));
    return party;
  }

  private addHeir(
    ledger: Ledger,
    role: ProducerRole & { comes: "after death" | "to take over" },
  ): void {
    const { stage } = this;
    const { lane, ring } = stage;
    const forebear = role.comes === "after death" ? `producer${role.producer}` : "producer0";
    const isDead = this.deathOf(forebear);
    this.add(`heir${role.producer}`, function* () {
      const takesOver = role.comes === "to take over";
      if (takesOver) {
        const standby = yield* new ring.Standby().$open(lane, role.producer);
        while (!(yield* standby.isDue())) yield napForDeath;
      } else {
        while (!isDead()) yield napForDeath;
      }
      const publisher = yield* new ring.Publisher().$open(lane, role.producer, takesOver);
      yield* produce(ledger, publisher, role);
    });
  }

  private addConsumingHeir(ledger: Ledger, role: ConsumerRole, owners: Map<Taken, Party>): void {
    const { stage } = this;
    const name = `consumer${role.consumer}`;
    const isDead = this.deathOf(name);
    const subscribe = (taken: Taken): Steps<Taking> => this.subscribe(role, taken);
    const party = this.add(`heir of ${name}`, function* () {
      while (!isDead()) yield napForDeath;
      const taken = ledger.follow(name);
      owners.set(taken, party);
      const subscriber = yield* subscribe(taken);
      yield* consume(stage, subscriber, taken, role);
    });
  }

  private deathOf(name: string): () => boolean {
    const { parties } = this.stage;
    return () => parties.some((party) => party.name === name && party.state === "dead");
  }

  /** What came before the play. */
  private prepare(): void {
    const { scene, stage } = this;
    const { lane, ring } = stage;
    const before = new Party("before", 99, function* () {});
    stage.parties = [before];
    stage.current = before;
    if ((scene.before ?? []).length + (scene.backlog ?? []).length === 0) return;
    const publisher = stage.drain(new ring.Publisher().$open(lane, 0));
    for (const bytes of scene.before ?? []) {
      stage.drain(publisher.offer(bodyOf(beforeId, bytes)));
      for (let consumer = 0; consumer < scene.consumers; consumer++) this.takeAll(consumer);
    }
    (scene.backlog ?? []).forEach((bytes, index) => {
      stage.drain(publisher.offer(bodyOf(backlogId + index, bytes)));
    });
    stage.drain(publisher.close());
    stage.parties = [];
  }

  private takeAll(consumer: number): void {
    const { stage } = this;
    const role: ConsumerRole = { consumer, limit: 100, waits: "napping" };
    const taken = new Ledger(0).follow("before");
    const subscriber = stage.drain(this.subscribe(role, taken));
    // eslint-disable-next-line require-yield
    const nothing = function* (): Steps<void> {
      return undefined;
    };
    while (stage.drain(subscriber.poll(nothing, 100)) > 0) stage.drain(subscriber.release());
    stage.drain(subscriber.close());
  }
}

const beforeId = 90_000;
const backlogId = 80_000;
/** Until a death it has nothing to do: it naps, and a death ends all naps. */
const napForDeath = -1;
