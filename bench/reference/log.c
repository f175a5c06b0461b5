/* The queue of spec/segment.md in C: the limit that the figures of bench/queue.ts are held against.
 *
 *   log append PAYLOAD HEAD BURST REST CHECKSUM CLOCK SEGMENT_BYTES DIRECTORY
 *       writes the messages of the head, rests until the next segment is made, and prints millions
 *       of messages a second: of the burst, and of it and the rest
 *   log read DIRECTORY ...
 *       reads all of a queue, or of several merged by time; prints millions of messages a second,
 *       how many there were, and the sum of their payloads
 *   log paced PAYLOAD MESSAGES INTERVAL_NS CHECKSUM CLOCK SEGMENT_BYTES DIRECTORY
 *       a process writes, another one reads; prints the nanoseconds to append, and from the moment
 *       that it was due to be written to the reader, a line a message
 *   log roll PAYLOAD ROLLS INTERVAL_NS ALONE CHECKSUM CLOCK SEGMENT_BYTES DIRECTORY
 *       prints the nanoseconds of each append that goes over to the next segment; a writer that is
 *       alone makes that one itself
 *   log open DIRECTORY
 *       prints the milliseconds until a message could be appended
 *   log sync BYTES TIMES DIRECTORY
 *       writes so many bytes and calls fdatasync, without a queue; prints how often in a second
 *
 * CHECKSUM is 0 for none or 1 for XXH32. With CLOCK each message takes the time of the clock,
 * without it has one already. What is written is a queue that others can read.
 *
 * A thread makes the next segment, puts all its pages into memory, and unmaps the last one, both
 * for who writes and for who reads. A writer writes each payload in place; a reader reads one
 * double of each cache line (of a payload of 64 bytes, all eight). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Offsets in a header: of all files, of a segment, of the control file. */
enum { VERSION = 8, KIND = 12, IDENTITY = 16, NUMBER = 24, BYTES = 28, START = 32, CRC = 60 };
enum { FIRST_SEQUENCE = 64, BEFORE_NS = 72, BEGUN_EPOCH = 80, BEGUN_CRC = 84, BEGUN = 88 };
enum { LAST_SEQUENCE = 128, LAST_NS = 136, END = 144, SEALED_CRC = 148, SEALED = 152 };
enum { DURABLE = 192, INDEXED = 196, INDEX = 256 };
enum { EPOCH = 64, IS_OPEN = 76 };
enum { AT_SEGMENT = 128, AT_END = 132, AT_SEQUENCE = 136, AT_CHECK = 144 };
enum { ASLEEP = 192, WAKES = 196 };
/* Of a record. */
enum { SUM = 4, SEQUENCE = 8, TIME = 16, TYPE = 24, RECORD_EPOCH = 28, PAYLOAD = 32 };
enum { CONTROL_BYTES = 4096, ENTRY_BYTES = 24, STRIDE = 65536, SALT = 0x4741504c, FORMAT = 2 };
enum { POPULATE_READ = 22, POPULATE_WRITE = 23 };

/* Makes segments, or opens them, ahead of who needs them. */
typedef struct {
  const char *directory;
  uint32_t segment_bytes, kind, number;
  int is_read, is_alone;
  uint8_t *ready, *used;
  sem_t is_wanted, is_ready;
} Supply;

typedef struct {
  Supply supply;
  uint8_t *control, *segment;
  uint32_t bytes, end, kind, epoch, count, stride, has_clock;
  uint64_t sequence, latest_ns;
} Publisher;

typedef struct {
  Supply supply;
  uint8_t *control, *segment;
  uint32_t bytes, offset, kind;
  uint64_t expected;
  double sum;
} Subscriber;

static uint32_t *word(uint8_t *at) { return (uint32_t *)at; }
static uint64_t *wide(uint8_t *at) { return (uint64_t *)at; }
static _Atomic int32_t *atomic(uint8_t *at) { return (_Atomic int32_t *)at; }

static void check(int holds, const char *what) {
  if (holds) return;
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static uint64_t time_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
static void wait_until(double due) {
  for (double left; (left = due - now()) > 0;)
    if (left > 2e5) nanosleep(&(struct timespec){0, (long)(left - 1e5)}, NULL);
}
static void pin(long core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)(core % sysconf(_SC_NPROCESSORS_ONLN)), &set);
  sched_setaffinity(0, sizeof set, &set);
}

static uint32_t crc32(const uint8_t *bytes, uint32_t length) {
  uint32_t crc = ~0u;
  for (uint32_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

#define PRIME1 0x9e3779b1u
#define PRIME2 0x85ebca77u
#define PRIME3 0xc2b2ae3du
#define PRIME4 0x27d4eb2fu
#define PRIME5 0x165667b1u
static uint32_t rotate(uint32_t value, int by) { return value << by | value >> (32 - by); }
static uint32_t stir(uint32_t lane, uint32_t input) {
  return rotate(lane + input * PRIME2, 13) * PRIME1;
}
static uint32_t xxh32(const uint8_t *at, uint32_t length, uint32_t seed) {
  const uint8_t *end = at + length;
  uint32_t hash = seed + PRIME5, input[4];
  if (length >= 16) {
    uint32_t a = seed + PRIME1 + PRIME2, b = seed + PRIME2, c = seed, d = seed - PRIME1;
    for (; at + 16 <= end; at += 16) {
      memcpy(input, at, 16);
      a = stir(a, input[0]), b = stir(b, input[1]), c = stir(c, input[2]), d = stir(d, input[3]);
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
  }
  hash += length;
  for (; at + 4 <= end; at += 4) {
    memcpy(input, at, 4);
    hash = rotate(hash + input[0] * PRIME3, 17) * PRIME4;
  }
  for (; at < end; at++) hash = rotate(hash + *at * PRIME5, 11) * PRIME1;
  hash = (hash ^ hash >> 15) * PRIME2;
  hash = (hash ^ hash >> 13) * PRIME3;
  return hash ^ hash >> 16;
}

static void path_of(char *path, const char *directory, uint32_t number) {
  if (number) snprintf(path, 4096, "%s/%010u.segment", directory, number);
  else snprintf(path, 4096, "%s/queue.control", directory);
}

/* The file's bytes in memory, all its pages already there; NULL where there is no such file. */
static uint8_t *map(const char *path, size_t bytes, int populate) {
  int fd = open(path, O_RDWR);
  if (fd < 0) return NULL;
  struct stat found;
  check(fstat(fd, &found) == 0, path);
  if (!bytes) bytes = (size_t)found.st_size;
  uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  check(memory != MAP_FAILED, path);
  if (populate) madvise(memory, bytes, populate);
  close(fd);
  return memory;
}

/* Named when it has its bytes, so that nobody maps a file without any. */
static uint8_t *create(const char *directory, uint32_t number, size_t bytes, const char *magic) {
  char path[4096], unnamed[4096 + 4];
  path_of(path, directory, number);
  snprintf(unnamed, sizeof unnamed, "%s.tmp", path);
  int fd = open(unnamed, O_RDWR | O_CREAT | O_EXCL, 0600);
  check(fd >= 0 && posix_fallocate(fd, 0, (off_t)bytes) == 0 && close(fd) == 0, unnamed);
  uint8_t *memory = map(unnamed, bytes, POPULATE_WRITE);
  memcpy(memory, magic, 8);
  *word(memory + VERSION) = FORMAT;
  *wide(memory + IDENTITY) = 1;
  check(rename(unnamed, path) == 0, path);
  return memory;
}

static uint32_t start_of(uint32_t bytes) {
  return (INDEX + (bytes + STRIDE - 1) / STRIDE * ENTRY_BYTES + 63) / 64 * 64;
}

static uint8_t *make_segment(const Supply *s) {
  uint8_t *memory = create(s->directory, s->number, s->segment_bytes, "GAPLESSQ");
  *word(memory + KIND) = s->kind;
  *word(memory + NUMBER) = s->number;
  *word(memory + BYTES) = s->segment_bytes;
  *word(memory + START) = start_of(s->segment_bytes);
  *word(memory + CRC) = crc32(memory, CRC);
  return memory;
}

static uint8_t *open_or_make(const Supply *s) {
  char path[4096];
  if (!s->is_read) return make_segment(s);
  path_of(path, s->directory, s->number);
  return map(path, 0, POPULATE_READ);
}

static void *supply(void *argument) {
  Supply *s = argument;
  for (;;) {
    while (sem_wait(&s->is_wanted)) {}
    if (s->used) munmap(s->used, *word(s->used + BYTES));
    s->number++;
    s->ready = open_or_make(s);
    sem_post(&s->is_ready);
  }
  return NULL;
}

static void start(Supply *s) {
  pthread_t thread;
  sem_init(&s->is_wanted, 0, s->is_alone ? 0 : 1);
  sem_init(&s->is_ready, 0, 0);
  if (!s->is_alone) check(pthread_create(&thread, NULL, supply, s) == 0, "pthread_create");
}

/* The next segment; NULL for a reader that is at the end. */
static uint8_t *take_segment(Supply *s) {
  if (!s->is_alone)
    while (sem_wait(&s->is_ready)) {}
  if (s->is_alone) s->number++;
  if (s->is_alone || !s->ready) return open_or_make(s);
  return s->ready;
}

/* Gives the one before it back, which has one made that comes after it. */
static void give_back(Supply *s, uint8_t *used) {
  if (s->is_alone && used) munmap(used, *word(used + BYTES));
  if (s->is_alone) return;
  s->used = used;
  sem_post(&s->is_wanted);
}

static void begin(Publisher *p, uint8_t *segment) {
  *wide(segment + FIRST_SEQUENCE) = p->sequence + 1;
  *wide(segment + BEFORE_NS) = p->latest_ns;
  *word(segment + BEGUN_EPOCH) = p->epoch;
  *word(segment + BEGUN_CRC) = crc32(segment + FIRST_SEQUENCE, BEGUN_CRC - FIRST_SEQUENCE);
  atomic_store_explicit(atomic(segment + BEGUN), 1, memory_order_release);
}

static void seal(const Publisher *p, uint8_t *segment) {
  int32_t nothing = 0;
  if (p->end < p->bytes)
    check(atomic_compare_exchange_strong(atomic(segment + p->end), &nothing, -1), "fenced");
  *wide(segment + LAST_SEQUENCE) = p->sequence;
  *wide(segment + LAST_NS) = p->latest_ns;
  *word(segment + END) = p->end;
  *word(segment + SEALED_CRC) = crc32(segment + LAST_SEQUENCE, SEALED_CRC - LAST_SEQUENCE);
  atomic_store_explicit(atomic(segment + SEALED), 1, memory_order_release);
}

static void roll(Publisher *p) {
  uint8_t *used = p->segment, *next = take_segment(&p->supply);
  begin(p, next);
  if (used) seal(p, used);
  give_back(&p->supply, used);
  p->segment = next;
  p->end = start_of(p->bytes);
  p->count = 0;
  p->stride = p->end + STRIDE;
}

static void add_to_index(Publisher *p, uint32_t offset) {
  uint32_t start = start_of(p->bytes), indexed = *word(p->segment + INDEXED);
  uint8_t *entry = p->segment + INDEX + indexed * ENTRY_BYTES;
  *word(entry) = offset;
  *word(entry + 4) = p->count;
  *wide(entry + 8) = p->latest_ns;
  *word(entry + 16) = crc32(entry, 16);
  *word(p->segment + INDEXED) = indexed + 1;
  p->stride = start + ((offset - start) / STRIDE + 1) * STRIDE;
}

static void wake_sleepers(uint8_t *control) {
  if (atomic_load(atomic(control + ASLEEP)) == 0) return;
  atomic_store(atomic(control + ASLEEP), 0);
  atomic_fetch_add(atomic(control + WAKES), 1);
  syscall(SYS_futex, control + WAKES, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static uint32_t check_of(uint32_t segment, uint32_t end, double sequence) {
  return segment ^ end ^ (uint32_t)(uint64_t)sequence ^ SALT;
}

static void tell_position(const Publisher *p) {
  uint32_t segment = *word(p->segment + NUMBER);
  *word(p->control + AT_SEGMENT) = segment;
  *word(p->control + AT_END) = p->end;
  *(double *)(p->control + AT_SEQUENCE) = (double)p->sequence;
  *word(p->control + AT_CHECK) = check_of(segment, p->end, (double)p->sequence);
}

static void append(Publisher *p, uint32_t type, const void *payload, uint32_t size, uint64_t ns) {
  uint32_t length = PAYLOAD + size, space = (length + 7) & ~7u;
  if (space > p->bytes - p->end) roll(p);
  uint32_t offset = p->end, end = offset + space;
  if (offset >= p->stride) add_to_index(p, offset);
  uint8_t *record = p->segment + offset;
  memcpy(record + PAYLOAD, payload, size);
  *wide(record + SEQUENCE) = ++p->sequence;
  *wide(record + TIME) = p->has_clock ? time_ns() : ns;
  *word(record + TYPE) = type;
  *word(record + RECORD_EPOCH) = p->epoch;
  *word(record + SUM) = p->kind ? xxh32(record + 8, length - 8, offset) : 0;
  if (*wide(record + TIME) > p->latest_ns) p->latest_ns = *wide(record + TIME);
  if (end < p->bytes) *word(p->segment + end) = 0;
  int32_t nothing = 0;
  check(atomic_compare_exchange_strong(atomic(record), &nothing, (int32_t)length), "fenced");
  p->end = end;
  p->count++;
  tell_position(p);
  /* Behind the exchange, which is sequentially consistent: who sleeps has said so before it. */
  wake_sleepers(p->control);
}

static uint32_t number_of(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

/* A new queue: words are CHECKSUM CLOCK SEGMENT_BYTES DIRECTORY. */
static Publisher *create_queue(char **words, int is_alone) {
  Publisher *p = calloc(1, sizeof *p);
  p->kind = number_of(words[0]);
  p->has_clock = number_of(words[1]);
  p->bytes = number_of(words[2]);
  p->epoch = 1;
  p->control = create(words[3], 0, CONTROL_BYTES, "GAPLESSC");
  *word(p->control + CRC) = crc32(p->control, CRC);
  *word(p->control + EPOCH) = p->epoch;
  p->supply.directory = words[3];
  p->supply.segment_bytes = p->bytes;
  p->supply.kind = p->kind;
  p->supply.is_alone = is_alone;
  start(&p->supply);
  roll(p);
  tell_position(p);
  return p;
}

static int enter(Subscriber *s) {
  uint8_t *next = take_segment(&s->supply);
  if (!next || atomic_load(atomic(next + BEGUN)) == 0) return 0;
  give_back(&s->supply, s->segment);
  s->segment = next;
  s->bytes = *word(next + BYTES);
  s->kind = *word(next + KIND);
  s->offset = *word(next + START);
  if (*wide(next + FIRST_SEQUENCE) != s->expected) abort();
  return 1;
}

static Subscriber *open_subscriber(const char *directory) {
  Subscriber *s = calloc(1, sizeof *s);
  s->expected = 1;
  s->supply.directory = directory;
  s->supply.is_read = 1;
  start(&s->supply);
  check(enter(s), directory);
  return s;
}

/* The record that comes next; NULL where there is none yet. */
static uint8_t *peek(Subscriber *s) {
  for (;;) {
    int32_t length = -1;
    if (s->offset < s->bytes)
      length = atomic_load_explicit(atomic(s->segment + s->offset), memory_order_acquire);
    if (length == 0) return NULL;
    if (length > 0) return s->segment + s->offset;
    if (!enter(s)) return NULL;
  }
}

static void take(Subscriber *s, uint8_t *record) {
  uint32_t length = *word(record), size = length - PAYLOAD;
  if (length > s->bytes - s->offset || *wide(record + SEQUENCE) != s->expected) abort();
  if (s->kind && *word(record + SUM) != xxh32(record + 8, length - 8, s->offset)) abort();
  const double *payload = (const double *)(record + PAYLOAD);
  double part = 0;
  for (uint32_t i = 0, step = size > 64 ? 8 : 1; i < size / 8; i += step) part += payload[i];
  s->sum += part;
  s->expected++;
  s->offset += (length + 7) & ~7u;
}

static void fill(double *payload, uint32_t size, double value) {
  if (size > 64) payload[0] = value;
  else
    for (uint32_t i = 0; i < size / 8; i++) payload[i] = value;
}

static void append_many(Publisher *p, uint32_t size, uint32_t messages) {
  double payload[size / 8 + 1];
  memset(payload, 0, sizeof payload);
  uint64_t ns = time_ns();
  while (messages-- > 0) {
    fill(payload, size, (double)p->sequence);
    append(p, 1, payload, size, ns);
  }
}

static int run_append(char **words) {
  uint32_t size = number_of(words[0]), head = number_of(words[1]);
  uint32_t burst = number_of(words[2]), rest = number_of(words[3]);
  Publisher *p = create_queue(words + 4, 0);
  pin(0);
  append_many(p, size, head);
  nanosleep(&(struct timespec){0, 300000000}, NULL);
  double start = now();
  append_many(p, size, burst);
  printf("%f\n", burst / (now() - start) * 1e3);
  append_many(p, size, rest);
  printf("%f\n", (burst + rest) / (now() - start) * 1e3);
  return 0;
}

static int run_read(char **directories, int queues) {
  Subscriber *s[queues];
  uint8_t *record[queues];
  double sum = 0, count = 0;
  for (int i = 0; i < queues; i++) s[i] = open_subscriber(directories[i]);
  pin(0);
  double start = now();
  for (int i = 0; i < queues; i++) record[i] = peek(s[i]);
  for (;;) {
    int first = -1;
    for (int i = 0; i < queues; i++)
      if (record[i] && (first < 0 || *wide(record[i] + TIME) < *wide(record[first] + TIME)))
        first = i;
    if (first < 0) break;
    take(s[first], record[first]);
    record[first] = peek(s[first]);
  }
  double ns = now() - start;
  for (int i = 0; i < queues; i++) sum += s[i]->sum, count += (double)s[i]->expected - 1;
  printf("%f\n%.0f\n%.0f\n", count / ns * 1e3, count, sum);
  return 0;
}

static int run_paced(char **words) {
  uint32_t size = number_of(words[0]), messages = number_of(words[1]);
  double interval = atof(words[2]);
  float(*times)[2] = mmap(NULL, messages * sizeof *times, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  Publisher *p = create_queue(words + 3, 0);
  if (fork() == 0) {
    Subscriber *s = open_subscriber(words[6]);
    pin(1);
    for (uint32_t i = 0; i < messages; i++) {
      uint8_t *record;
      while (!(record = peek(s))) __builtin_ia32_pause();
      s->sum = 0;
      take(s, record);
      /* The payload's one double that is not zero says when it was due. */
      times[i][1] = (float)(now() - s->sum);
    }
    _exit(0);
  }
  pin(0);
  double payload[size / 8 + 1], due = now() + 2e7;
  memset(payload, 0, sizeof payload);
  for (uint32_t i = 0; i < messages; i++, due += interval) {
    wait_until(due);
    payload[0] = due;
    double before = now();
    append(p, 1, payload, size, (uint64_t)due);
    times[i][0] = (float)(now() - before);
  }
  while (wait(NULL) > 0) {}
  for (uint32_t i = 0; i < messages; i++) printf("%.0f %.0f\n", times[i][0], times[i][1]);
  return 0;
}

static int run_roll(char **words) {
  uint32_t size = number_of(words[0]), rolls = number_of(words[1]);
  double interval = atof(words[2]);
  Publisher *p = create_queue(words + 4, atoi(words[3]));
  pin(0);
  double payload[size / 8 + 1], due = now() + 2e7;
  memset(payload, 0, sizeof payload);
  for (uint32_t i = 0, rolled = 0; rolled < rolls; i++, due += interval) {
    wait_until(due);
    fill(payload, size, i);
    const uint8_t *segment = p->segment;
    double before = now();
    append(p, 1, payload, size, (uint64_t)due);
    double ns = now() - before;
    if (p->segment == segment) continue;
    rolled++;
    printf("%.0f\n", ns);
  }
  return 0;
}

static int run_open(char **words) {
  char path[4096];
  double start = now();
  path_of(path, words[0], 0);
  uint8_t *control = map(path, CONTROL_BYTES, 0);
  check(control != NULL, path);
  uint32_t number = *word(control + AT_SEGMENT), end = *word(control + AT_END);
  double sequence = *(double *)(control + AT_SEQUENCE);
  if (*word(control + AT_CHECK) != check_of(number, end, sequence)) abort();
  path_of(path, words[0], number);
  uint8_t *segment = map(path, 0, 0);
  check(segment != NULL && *word(segment + CRC) == crc32(segment, CRC), path);
  uint32_t bytes = *word(segment + BYTES);
  if (end < bytes && atomic_load(atomic(segment + end)) != 0) abort();
  printf("%f\n", (now() - start) / 1e6);
  return 0;
}

static int run_sync(char **words) {
  uint32_t bytes = number_of(words[0]), times = number_of(words[1]);
  char path[4096], payload[bytes];
  memset(payload, 1, bytes);
  snprintf(path, sizeof path, "%s/raw", words[2]);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  off_t size = (off_t)bytes * times;
  check(fd >= 0 && posix_fallocate(fd, 0, size) == 0 && fsync(fd) == 0, path);
  double start = now();
  for (uint32_t i = 0; i < times; i++) {
    check(pwrite(fd, payload, bytes, (off_t)bytes * i) == bytes, path);
    check(fdatasync(fd) == 0, path);
  }
  printf("%f\n", times / (now() - start) * 1e9);
  return unlink(path);
}

int main(int count, char **words) {
  const char *mode = count > 1 ? words[1] : "";
  if (count == 10 && !strcmp(mode, "append")) return run_append(words + 2);
  if (count >= 3 && !strcmp(mode, "read")) return run_read(words + 2, count - 2);
  if (count == 9 && !strcmp(mode, "paced")) return run_paced(words + 2);
  if (count == 10 && !strcmp(mode, "roll")) return run_roll(words + 2);
  if (count == 3 && !strcmp(mode, "open")) return run_open(words + 2);
  if (count == 5 && !strcmp(mode, "sync")) return run_sync(words + 2);
  return fprintf(stderr, "usage: see the head of log.c\n"), 2;
}
