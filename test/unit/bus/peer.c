/* A consumer and a producer of a channel, written from spec/ring.md alone.
 *
 *   peer consume FILE K SIZE_MAX        takes messages until the end, and prints how many, the
 *                                       newest sequence, and how many are missing
 *   peer produce FILE K LAST SIZE_MAX   goes on after its newest message, through number LAST
 *   peer waver FILE K LAST SIZE_MAX     the same; before each message it takes a claim back
 *   peer abandon FILE K SIZE_MAX        claims one message, and stays until it is killed
 *
 * K is the number of the end. Each producer numbers its messages from 1; size and bytes follow from
 * the number. Anything that is not as it should be ends the program with a word about it. It knows
 * channels of one lane, without a backup, that do not overwrite. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 1, JOINING = 2, STATE_STEP = 4, STAMPED = 256, EXTENSION_MAX = 136 };
enum { WITHDRAWN = 1 << 29, UNITS = 0x1fffffff };
enum { TAIL = 128, ANCHOR = 132, LOCK = 256, CLAIMED = 260, CLAIMING = 264, LIMIT = 268 };
enum { QUARANTINE_UNITS = 276, SEQUENCE = 288, SEQUENCE_BEFORE = 296, FLOOR = 384 };
enum { CONSUMERS = 512, PRODUCERS = 640, LOSSES = 768 };
enum { OWNER = 0, HEARTBEAT = 16, FINISHED = 20, NEWEST = 24 };
enum { POSITION = 20, STATE = 24, READER_SEQUENCE = 128, WITHDRAWN_THROUGH = 184 };
/* The upper two bits of a descriptor. */
enum { MESSAGE = 0, EXTENDED = 1, SKIPPED = 2, OPEN = 3 };
enum { ABANDONED = 4 };

static uint8_t *base;
static uint32_t control, capacity, message_max, producers, consumers, size_max;

static void fail(const char *what) {
  fprintf(stderr, "peer: %s\n", what);
  exit(1);
}

static _Atomic uint32_t *word(uint32_t offset) { return (_Atomic uint32_t *)(base + offset); }
static uint32_t load(uint32_t offset) { return atomic_load(word(offset)); }
static void store(uint32_t offset, uint32_t value) { atomic_store(word(offset), value); }
static int cas(_Atomic uint32_t *where, uint32_t from, uint32_t to) {
  return atomic_compare_exchange_strong(where, &from, to);
}
/* Volatile: writes stay in their order. */
static volatile uint32_t *cell(uint32_t offset) { return (volatile uint32_t *)(base + offset); }
static volatile double *number_at(uint32_t offset) { return (volatile double *)(base + offset); }
static uint8_t *place(uint32_t position) {
  return base + control + 8 * (uint64_t)(position & (capacity - 1));
}
static _Atomic uint32_t *descriptor_at(uint32_t position) {
  return (_Atomic uint32_t *)place(position);
}
static uint32_t rest_of_ring(uint32_t position) { return capacity - (position & (capacity - 1)); }
static uint32_t units_of(uint32_t body) { return 2 + (body + 7) / 8; }
static uint32_t units_of_record(uint32_t descriptor) {
  return descriptor >> 30 == SKIPPED ? descriptor & UNITS : units_of(descriptor & 0xffffff);
}
static uint32_t producer_of(uint32_t descriptor) { return descriptor >> 24 & 63; }
static uint32_t producer_block(uint32_t number) { return 8192 + 1536 * number; }
static uint32_t consumer_block(uint32_t number) { return producer_block(producers + number); }

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}
static void beat(uint32_t block) {
  *cell(block + HEARTBEAT) = (uint32_t)(uint64_t)(now() / 1e6);
}

/* Sleeping on a pair of words, of which `asleep` is the first. */
static void nap(uint32_t asleep, uint32_t seen, long milliseconds) {
  struct timespec timeout = {0, milliseconds * 1000000};
  syscall(SYS_futex, word(asleep + 4), FUTEX_WAIT, seen, &timeout, NULL, 0);
}
static void wake(uint32_t asleep) {
  if (load(asleep) == 0) return;
  store(asleep, 0);
  atomic_fetch_add(word(asleep + 4), 1);
  syscall(SYS_futex, word(asleep + 4), FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
}

static uint32_t crc32(const uint8_t *bytes, size_t length) {
  uint32_t crc = ~0u;
  while (length--) {
    crc ^= *bytes++;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

static void attach(const char *path) {
  struct stat status;
  int file = open(path, O_RDWR);
  if (file < 0 || fstat(file, &status) || status.st_size < 8192) fail("no channel file");
  base = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (base == MAP_FAILED) fail("cannot map");
  if (memcmp(base, "GAPLRING", 8) || *cell(8) != 3) fail("not a channel");
  if (*cell(12) != crc32(base + 16, 112)) fail("checksum");
  if (*cell(16) < 12 || *cell(16) > 33) fail("size of the ring");
  if (*cell(52) != 1 || *cell(56) != 0) fail("several lanes");
  message_max = *cell(20);
  consumers = *cell(24);
  producers = *cell(48);
  control = (8192 + 1536 * (producers + consumers) + 4095) / 4096 * 4096;
  if ((uint64_t)status.st_size != control + (1ull << *cell(16))) fail("size of the file");
  capacity = 1u << (*cell(16) - 3);
  char boot[40] = "", digits[33] = "";
  FILE *id = fopen("/proc/sys/kernel/random/boot_id", "r");
  if (!id || !fgets(boot, sizeof boot, id)) fail("boot id");
  for (char *from = boot, *to = digits; *from && to < digits + 32; from++)
    if (*from != '-') *to++ = *from;
  for (int group = 3; group >= 0; group--) {
    digits[8 * group + 8] = 0;
    if (*cell(32 + 4 * (uint32_t)group) != strtoul(digits + 8 * group, NULL, 16))
      fail("another boot");
  }
}

/* The start time of a process; 0 where there is none, or a zombie. */
static uint64_t start_of(int32_t pid) {
  char path[32], text[1024] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  char *field = strrchr(text, ')');
  if (!field || field[2] == 'Z' || field[2] == 'X') return 0;
  for (int number = 2; number < 22; number++) field = strchr(field + 1, ' ');
  return strtoull(field, NULL, 10);
}

static int is_alive(uint32_t owner, int32_t pid) {
  if (pid == 0) return 0;
  if (pid < 0) return start_of(-pid) != 0;
  uint64_t start = load(owner + 4) | (uint64_t)load(owner + 8) << 32;
  return start_of(pid) == start;
}

static void take(uint32_t owner) {
  uint32_t before, own = (uint32_t)getpid();
  do {
    before = load(owner);
    if (is_alive(owner, (int32_t)before)) fail("already open");
  } while (!atomic_compare_exchange_strong(word(owner), &before, -own));
  uint64_t start = start_of(getpid());
  store(owner + 4, (uint32_t)start);
  store(owner + 8, (uint32_t)(start >> 32));
  store(owner, own);
}

static uint32_t size_of(uint32_t number) {
  uint32_t mixed = number * 0x9e3779b1u, most = size_max - 8;
  uint32_t range = mixed % 7 == 0 || most < 56 ? most : 56;
  return 8 + (mixed >> 8) % (range + 1);
}

/* The lock, and what several producers share. `mine` is what the lock holds while we have it. */
static uint32_t mine;

static uint32_t locked_by(uint32_t party) { return party | (uint32_t)getpid() << 8; }

static int is_party_alive(uint32_t party) {
  uint32_t owner = party > 64 ? consumer_block(party - 65) : producer_block(party - 1);
  return is_alive(owner + OWNER, (int32_t)load(owner + OWNER));
}

static int is_holder_there(uint32_t holder) {
  uint32_t party = holder & 255;
  uint32_t owner = party > 64 ? consumer_block(party - 65) : producer_block(party - 1);
  return (uint32_t)abs((int32_t)load(owner + OWNER)) == holder >> 8 && is_party_alive(party);
}

static void mend(void) {
  if ((int32_t)(*cell(CLAIMING) - load(CLAIMED)) < 0) return;
  *number_at(SEQUENCE) = *number_at(SEQUENCE_BEFORE);
  *cell(CLAIMING) = load(CLAIMED) - 1;
}

static void lock(void) {
  for (int attempt = 1; !cas(word(LOCK), 0, mine); attempt++) {
    uint32_t holder = load(LOCK);
    if (attempt % 64 == 0 && holder != 0 && !is_holder_there(holder) &&
        cas(word(LOCK), holder, mine))
      return mend();
    if (attempt % 16 == 0) nanosleep(&(struct timespec){0, 50000}, NULL);
  }
}
static void unlock(void) { store(LOCK, 0); }

static int advance(void) {
  for (int has_moved = 0;;) {
    uint32_t tail = load(TAIL), claimed = load(CLAIMED), end = tail;
    while (end != claimed) {
      uint32_t descriptor = atomic_load(descriptor_at(end)), units = units_of_record(descriptor);
      if (descriptor >> 30 == OPEN || units == 0 || end - tail + units > claimed - tail) break;
      end += units;
    }
    if (end == tail) return has_moved;
    if (cas(word(TAIL), tail, end)) has_moved = 1;
  }
}

/* With the lock. */
static void abandon(uint32_t position, uint32_t descriptor) {
  uint32_t skipped = (uint32_t)SKIPPED << 30 | units_of_record(descriptor);
  if (!cas(descriptor_at(position), descriptor, skipped)) return;
  uint32_t number = atomic_fetch_add(word(LOSSES), 1) + 1, at = 4096 + 64 * ((number - 1) % 64);
  store(at, 0);
  *cell(at + 4) = ABANDONED;
  *cell(at + 8) = producer_of(descriptor);
  *number_at(at + 16) = *number_at(at + 24) = *(double *)(place(position) + 8);
  *number_at(at + 32) = 1;
  *number_at(at + 40) = now();
  store(at, number);
}

/* The descriptor at the tail if it is a claim of the dead, else 0. */
static uint32_t dead_claim(void) {
  uint32_t tail = load(TAIL);
  if (tail == load(CLAIMED)) return 0;
  uint32_t descriptor = atomic_load(descriptor_at(tail));
  if (descriptor >> 30 != OPEN || is_party_alive(1 + producer_of(descriptor))) return 0;
  return descriptor;
}

static void settle_the_dead(void) {
  if (producers == 1 || load(TAIL) == load(CLAIMED)) return;
  int has_moved = advance();
  while (dead_claim()) {
    lock();
    uint32_t descriptor = dead_claim();
    if (descriptor) abandon(load(TAIL), descriptor);
    unlock();
    has_moved |= advance();
  }
  if (has_moved) wake(CONSUMERS);
}

static uint32_t rejoin(uint32_t block) {
  uint32_t next = (load(block + STATE) + STATE_STEP) & ~(uint32_t)(FAILED | JOINING);
  uint32_t position = load(block + POSITION), floor;
  store(block + STATE, next | JOINING);
  while ((int32_t)((floor = load(FLOOR)) - position) > 0) store(block + POSITION, position = floor);
  store(block + STATE, next);
  return position;
}

static int has_ended(uint32_t taken) {
  for (uint32_t producer = 0; producer < producers; producer++)
    if (load(producer_block(producer) + FINISHED) == 0) return 0;
  return load(TAIL) == taken;
}

/* Checks a message. `numbers` are the newest of each producer. */
static void check(const uint8_t *record, uint32_t descriptor, uint32_t *numbers) {
  uint32_t length = descriptor & 0xffffff, extra = 0;
  const uint8_t *message = record + 16;
  if (descriptor >> 30 == EXTENDED) {
    uint32_t extension = *(const uint32_t *)(record + 4);
    if (extension & STAMPED && !(*(const double *)message <= now() + 1e6)) fail("stamp");
    extra = (extension & STAMPED ? 8 : 0) + ((extension & 255) + 7) / 8 * 8;
  }
  if (extra > length) fail("a damaged extension");
  message += extra;
  length -= extra;
  uint32_t number = ++numbers[producer_of(descriptor)];
  if (*(const double *)message != number) fail("out of order");
  if (length != size_of(number)) fail("another size");
  for (uint32_t index = 8; index < length; index++)
    if (message[index] != (uint8_t)(number + index * 7)) fail("torn");
}

static void consume(uint32_t self) {
  uint32_t block = consumer_block(self), numbers[64] = {0}, count = 0;
  mine = locked_by(65 + self);
  take(block + OWNER);
  uint32_t state = load(block + STATE), taken;
  if (!(state & (FAILED | JOINING)) && cas(word(block + STATE), state, state + STATE_STEP))
    taken = load(block + POSITION);
  else
    taken = rejoin(block);
  double sequence = *number_at(block + READER_SEQUENCE), missing = 0;
  double withdrawn = *number_at(block + WITHDRAWN_THROUGH);
  while (!has_ended(taken)) {
    uint32_t end = load(TAIL);
    if (end - taken > capacity) fail("the tail is too far away");
    while (taken != end) {
      uint8_t *record = place(taken);
      uint32_t descriptor = *(uint32_t *)record, units = units_of_record(descriptor);
      if (descriptor >> 30 == OPEN || units == 0 || units > end - taken) fail("a damaged record");
      double found = *(double *)(record + 8), known = withdrawn > sequence ? withdrawn : sequence;
      if (descriptor >> 30 == SKIPPED) {
        if (descriptor & WITHDRAWN && found == known + 1) withdrawn = found;
      } else {
        if (units > rest_of_ring(taken)) fail("a record around the end");
        if ((descriptor & 0xffffff) > message_max + EXTENSION_MAX) fail("a body too long");
        if (found <= known) fail("a sequence twice");
        missing += found - known - 1;
        sequence = found;
        check(record, descriptor, numbers);
        count++;
      }
      taken += units;
    }
    if (load(block + STATE) & FAILED) fail("too slow");
    *number_at(block + READER_SEQUENCE) = sequence;
    *number_at(block + WITHDRAWN_THROUGH) = withdrawn;
    beat(block);
    store(block + POSITION, taken);
    wake(PRODUCERS);
    settle_the_dead();
    uint32_t seen = load(CONSUMERS + 4);
    store(CONSUMERS, 1);
    if (load(TAIL) == taken && !has_ended(taken)) nap(CONSUMERS, seen, 100);
  }
  store(block + OWNER, 0);
  printf("%u %.0f %.0f\n", count, sequence, missing);
}

/* A producer's own; `head` and `tail` only of one that is alone. */
static uint32_t self, own, head, tail, limit, anchor;
static double sequence;

static uint32_t slowest(uint32_t from, uint32_t keep, int is_past) {
  uint32_t lag = from - keep;
  for (uint32_t consumer = 0; consumer < consumers; consumer++) {
    uint32_t block = consumer_block(consumer), state = load(block + STATE);
    if (state & FAILED) continue;
    uint32_t behind = from - load(block + POSITION);
    if (is_past && (int32_t)behind < 0) continue;
    if (behind > capacity && !(state & JOINING)) fail("a consumer is too far behind");
    if (behind > capacity) behind = from - load(FLOOR);
    if (behind > lag) lag = behind;
  }
  return from - lag;
}

static uint32_t raise_floor(uint32_t from, uint32_t keep) {
  uint32_t floor = slowest(from, keep, 0);
  if (load(FLOOR) == floor) return floor;
  store(FLOOR, floor);
  uint32_t agreed = slowest(from, keep, 0);
  if (agreed != floor) store(FLOOR, agreed);
  return agreed;
}

static uint32_t skipped_before(uint32_t start, uint32_t units) {
  uint32_t rest = rest_of_ring(start);
  return units > rest ? rest : 0;
}

/* Returns where the record begins; fails the claim by returning 0. */
static int claim_alone(uint32_t body, uint32_t *start) {
  uint32_t units = units_of(body), skipped = skipped_before(head, units);
  uint32_t end = head + skipped + units;
  if ((int32_t)(end - limit) > 0) limit = raise_floor(tail, anchor) + capacity;
  if ((int32_t)(end - limit) > 0) return 0;
  if (skipped) *(uint32_t *)place(head) = (uint32_t)SKIPPED << 30 | skipped;
  *start = head + skipped;
  *(uint32_t *)place(*start) = self << 24 | body;
  *(double *)(place(*start) + 8) = ++sequence;
  head = end;
  return 1;
}

static int claim_shared(uint32_t body, uint32_t *start) {
  lock();
  if (*cell(QUARANTINE_UNITS) != 0) fail("a quarantine without a backup");
  uint32_t claimed = load(CLAIMED), units = units_of(body);
  uint32_t skipped = skipped_before(claimed, units), end = claimed + skipped + units;
  if ((int32_t)(end - *cell(LIMIT)) > 0)
    *cell(LIMIT) = raise_floor(claimed, load(TAIL)) + capacity;
  if ((int32_t)(end - *cell(LIMIT)) > 0) return unlock(), 0;
  *number_at(SEQUENCE_BEFORE) = *number_at(SEQUENCE);
  *cell(CLAIMING) = claimed;
  if (skipped) *(volatile uint32_t *)place(claimed) = (uint32_t)SKIPPED << 30 | skipped;
  *start = claimed + skipped;
  sequence = *number_at(SEQUENCE) + 1;
  *(volatile uint32_t *)place(*start) = (uint32_t)OPEN << 30 | self << 24 | body;
  *(volatile double *)(place(*start) + 8) = sequence;
  *number_at(SEQUENCE) = sequence;
  store(CLAIMED, end);
  unlock();
  return 1;
}

static int claim(uint32_t body, uint32_t *start) {
  return producers == 1 ? claim_alone(body, start) : claim_shared(body, start);
}

static void commit(uint32_t start, uint32_t body) {
  if (producers == 1) {
    tail = head;
    store(TAIL, tail);
    *cell(ANCHOR) = anchor = start;
    *number_at(SEQUENCE) = sequence;
    wake(CONSUMERS);
  } else {
    uint32_t settled = self << 24 | body;
    if (!cas(descriptor_at(start), (uint32_t)OPEN << 30 | settled, settled)) fail("fenced");
    *cell(own + NEWEST) = start;
    if (advance()) wake(CONSUMERS);
  }
  beat(own);
}

static void withdraw(uint32_t start, uint32_t body) {
  if (producers == 1) fail("it cannot take back what it has not said to anybody");
  uint32_t open = (uint32_t)OPEN << 30 | self << 24 | body;
  uint32_t withdrawn = (uint32_t)SKIPPED << 30 | WITHDRAWN | units_of(body);
  if (!cas(descriptor_at(start), open, withdrawn)) fail("fenced");
  if (advance()) wake(CONSUMERS);
}

static int has_room(uint32_t units) {
  uint32_t from = producers == 1 ? head : load(CLAIMED);
  return from - slowest(from, from, 1) + 2 * units <= capacity;
}

static void wait_for_room(uint32_t units) {
  for (;;) {
    uint32_t seen = load(PRODUCERS + 4);
    if (has_room(units)) return;
    store(PRODUCERS, 1);
    if (has_room(units)) return;
    nap(PRODUCERS, seen, 100);
    settle_the_dead();
  }
}

/* Returns the number of its newest message. */
static uint32_t recover_alone(void) {
  tail = head = limit = load(TAIL);
  anchor = *cell(ANCHOR);
  if (tail - anchor > capacity) fail("the anchor is too far behind");
  for (uint32_t position = anchor; position != tail;) {
    uint32_t descriptor = *(uint32_t *)place(position), units = units_of_record(descriptor);
    if (units == 0 || units > tail - position) fail("a damaged record");
    if (descriptor >> 30 == OPEN) fail("an open claim of a lone producer");
    if (descriptor >> 30 != SKIPPED) {
      sequence = *(double *)(place(position) + 8);
      anchor = position;
    }
    position += units;
  }
  if (*number_at(SEQUENCE) > sequence) sequence = *number_at(SEQUENCE);
  return (uint32_t)sequence;
}

static uint32_t recover_shared(void) {
  lock();
  uint32_t floor = load(FLOOR), claimed = load(CLAIMED), position = *cell(own + NEWEST);
  uint32_t number = 0;
  if (position - floor >= claimed - floor) position = floor;
  while (position != claimed) {
    uint32_t descriptor = atomic_load(descriptor_at(position));
    uint32_t units = units_of_record(descriptor);
    if (units == 0 || units > claimed - position) fail("a damaged record");
    if (descriptor >> 30 == OPEN && producer_of(descriptor) == self) {
      abandon(position, descriptor);
    } else if (descriptor >> 31 == 0 && producer_of(descriptor) == self) {
      if (descriptor >> 30 == EXTENDED) fail("it writes no extensions");
      *cell(own + NEWEST) = position;
      number = (uint32_t) * (double *)(place(position) + 16);
    }
    position += units;
  }
  unlock();
  advance();
  return number;
}

static uint32_t open_producer(uint32_t producer) {
  self = producer;
  own = producer_block(producer);
  mine = locked_by(1 + producer);
  take(own + OWNER);
  store(own + FINISHED, 0);
  uint32_t newest = producers == 1 ? recover_alone() : recover_shared();
  wake(CONSUMERS);
  return newest;
}

static uint32_t claim_waiting(uint32_t length) {
  uint32_t start;
  while (!claim(length, &start)) wait_for_room(units_of(length));
  return start;
}

static void produce(uint32_t producer, uint32_t last, int wavers) {
  for (uint32_t number = open_producer(producer) + 1; number <= last; number++) {
    uint32_t length = size_of(number);
    if (wavers) withdraw(claim_waiting(length), length);
    uint32_t start = claim_waiting(length);
    uint8_t *message = place(start) + 16;
    *(double *)message = number;
    for (uint32_t index = 8; index < length; index++)
      message[index] = (uint8_t)(number + index * 7);
    commit(start, length);
  }
  store(own + FINISHED, 1);
  wake(CONSUMERS);
  store(own + OWNER, 0);
  printf("%u %.0f\n", last, sequence);
}

int main(int count, char **words) {
  if (count < 5) fail("usage");
  attach(words[2]);
  size_max = (uint32_t)atoi(words[count - 1]);
  uint32_t end = (uint32_t)atoi(words[3]);
  if (!strcmp(words[1], "consume")) consume(end);
  else if (!strcmp(words[1], "produce") && count == 6) produce(end, (uint32_t)atoi(words[4]), 0);
  else if (!strcmp(words[1], "waver") && count == 6) produce(end, (uint32_t)atoi(words[4]), 1);
  else if (!strcmp(words[1], "abandon")) open_producer(end), claim_waiting(8), pause();
  else fail("usage");
  return 0;
}
