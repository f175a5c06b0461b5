/* A consumer and a producer of a channel, written from spec/ring.md alone.
 *
 *   peer consume FILE K SIZE_MAX     takes messages until the end, and prints how many
 *   peer produce FILE LAST SIZE_MAX  goes on after the newest message, through number LAST
 *
 * Messages are those of test/support/bus-channel.ts: numbered from 1, size and bytes follow from
 * the number. Anything that is not as it should be ends the program with a word about it. */
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

enum { CONTROL = 16384, EVICTED = 1, JOINING = 2, STATE_STEP = 4 };
enum { TAIL = 128, ANCHOR = 132, PRODUCER_OWNER = 256, FINISHED = 272 };
enum { CONSUMERS_ASLEEP = 384, CONSUMERS_WAKES = 388, PRODUCER_ASLEEP = 448, PRODUCER_WAKES = 452 };
enum { POSITION = 0, STATE = 4, OWNER = 16 };

static uint8_t *base;
static uint32_t capacity, message_max, consumers, size_max;

static void fail(const char *what) {
  fprintf(stderr, "peer: %s\n", what);
  exit(1);
}

static _Atomic uint32_t *word(uint32_t offset) { return (_Atomic uint32_t *)(base + offset); }
static uint32_t load(uint32_t offset) { return atomic_load(word(offset)); }
static void store(uint32_t offset, uint32_t value) { atomic_store(word(offset), value); }
static uint32_t cell(uint32_t offset) { return *(uint32_t *)(base + offset); }
static uint8_t *place(uint32_t position) {
  return base + CONTROL + 8 * (uint64_t)(position & (capacity - 1));
}
static uint32_t rest_of_ring(uint32_t position) { return capacity - (position & (capacity - 1)); }
static uint32_t units_of(uint32_t length) { return 2 + (length + 7) / 8; }

static void nap(uint32_t offset, uint32_t seen, long milliseconds) {
  struct timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  syscall(SYS_futex, word(offset), FUTEX_WAIT, seen, &timeout, NULL, 0);
}
static void wake(uint32_t offset) {
  atomic_fetch_add(word(offset), 1);
  syscall(SYS_futex, word(offset), FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
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
  if (file < 0 || fstat(file, &status) || status.st_size < CONTROL) fail("no channel file");
  base = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (base == MAP_FAILED) fail("cannot map");
  if (memcmp(base, "GAPLRING", 8) || cell(8) != 1) fail("not a channel");
  if (cell(12) != crc32(base + 16, 112)) fail("checksum");
  if (cell(16) < 12 || cell(16) > 33) fail("size of the ring");
  if ((uint64_t)status.st_size != CONTROL + (1ull << cell(16))) fail("size of the file");
  capacity = 1u << (cell(16) - 3);
  message_max = cell(20);
  consumers = cell(24);
  char boot[40] = "", digits[33] = "";
  FILE *id = fopen("/proc/sys/kernel/random/boot_id", "r");
  if (!id || !fgets(boot, sizeof boot, id)) fail("boot id");
  for (char *from = boot, *to = digits; *from && to < digits + 32; from++)
    if (*from != '-') *to++ = *from;
  for (int group = 3; group >= 0; group--) {
    digits[8 * group + 8] = 0;
    if (cell(32 + 4 * group) != strtoul(digits + 8 * group, NULL, 16)) fail("another boot");
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

static void consume(uint32_t line, uint32_t count) {
  take(line + OWNER);
  uint32_t state = load(line + STATE), next = state + STATE_STEP;
  int holds = !(state & (EVICTED | JOINING));
  if (!holds || !atomic_compare_exchange_strong(word(line + STATE), &state, next)) {
    next = (load(line + STATE) + STATE_STEP) & ~(uint32_t)(EVICTED | JOINING);
    store(line + POSITION, load(TAIL));
    store(line + STATE, next | JOINING);
    store(line + POSITION, load(TAIL));
    store(line + STATE, next);
  }
  uint32_t taken = load(line + POSITION);
  while (!(load(FINISHED) == 1 && load(TAIL) == taken)) {
    uint32_t end = load(TAIL);
    if (end - taken > capacity) fail("the tail is too far away");
    for (; taken != end;) {
      uint8_t *record = place(taken);
      uint32_t length = *(uint32_t *)record, rest = rest_of_ring(taken);
      if (length == ~0u && rest <= end - taken) {
        taken += rest;
        continue;
      }
      uint32_t units = units_of(length);
      if (length > message_max || units > rest || units > end - taken) fail("a damaged record");
      double number = *(double *)(record + 16);
      if (*(double *)(record + 8) != number || number != ++count) fail("out of order");
      if (length != size_of(count)) fail("another size");
      for (uint32_t index = 8; index < length; index++)
        if (record[16 + index] != (uint8_t)(count + index * 7)) fail("torn");
      taken += units;
    }
    store(line + POSITION, taken);
    if (load(PRODUCER_ASLEEP)) wake(PRODUCER_WAKES);
    uint32_t seen = load(CONSUMERS_WAKES);
    store(CONSUMERS_ASLEEP, 1);
    if (load(TAIL) != taken || load(FINISHED) == 1) continue;
    nap(CONSUMERS_WAKES, seen, 60000);
  }
  store(line + OWNER, 0);
  printf("%u\n", count);
}

static uint32_t head, tail, limit, anchor;

static int has_room(uint32_t end) {
  if ((int32_t)(end - limit) <= 0) return 1;
  uint32_t lag = tail - anchor;
  for (uint32_t consumer = 0; consumer < consumers; consumer++) {
    uint32_t line = 1024 + 128 * consumer, state = load(line + STATE);
    if (state & EVICTED) continue;
    uint32_t behind = tail - load(line + POSITION);
    if (behind > capacity && !(state & JOINING)) fail("a consumer is too far behind");
    if (behind > capacity) behind = capacity;
    if (behind > lag) lag = behind;
  }
  limit = tail - lag + capacity;
  return (int32_t)(end - limit) <= 0;
}

static void wake_consumers(void) {
  store(CONSUMERS_ASLEEP, 0);
  wake(CONSUMERS_WAKES);
}

static void wait_for_room(uint32_t units) {
  for (;;) {
    uint32_t seen = load(PRODUCER_WAKES);
    if (has_room(head + 2 * units)) break;
    store(PRODUCER_ASLEEP, 1);
    if (has_room(head + 2 * units)) break;
    nap(PRODUCER_WAKES, seen, 100);
  }
  store(PRODUCER_ASLEEP, 0);
}

static void produce(uint32_t last) {
  take(PRODUCER_OWNER);
  store(FINISHED, 0);
  store(PRODUCER_ASLEEP, 0);
  tail = head = load(TAIL);
  anchor = cell(ANCHOR);
  double sequence = 0;
  for (uint32_t position = anchor; position != tail;) {
    uint32_t length = *(uint32_t *)place(position);
    if (tail - position > capacity) fail("the anchor is too far behind");
    if (length == ~0u) {
      position += rest_of_ring(position);
      continue;
    }
    if (length > message_max) fail("a damaged record");
    sequence = *(double *)(place(position) + 8);
    anchor = position;
    position += units_of(length);
  }
  limit = tail;
  wake_consumers();
  for (uint32_t number = (uint32_t)sequence + 1; number <= last; number++) {
    uint32_t length = size_of(number), units = units_of(length), rest = rest_of_ring(head);
    uint32_t padding = units > rest ? rest : 0;
    if (!has_room(head + padding + units)) wait_for_room(units);
    if (padding) *(uint32_t *)place(head) = ~0u;
    uint8_t *record = place(head + padding);
    *(uint32_t *)record = length;
    *(double *)(record + 8) = number;
    *(double *)(record + 16) = number;
    for (uint32_t index = 8; index < length; index++)
      record[16 + index] = (uint8_t)(number + index * 7);
    uint32_t start = head + padding;
    tail = head = start + units;
    store(TAIL, tail);
    *(volatile uint32_t *)(base + ANCHOR) = anchor = start;
    if (load(CONSUMERS_ASLEEP)) wake_consumers();
  }
  store(FINISHED, 1);
  wake_consumers();
  store(PRODUCER_OWNER, 0);
  printf("%u\n", last);
}

int main(int count, char **words) {
  if (count != 5) fail("usage");
  attach(words[2]);
  size_max = (uint32_t)atoi(words[4]);
  if (!strcmp(words[1], "consume")) consume(1024 + 128 * (uint32_t)atoi(words[3]), 0);
  else produce((uint32_t)atoi(words[3]));
  return 0;
}
