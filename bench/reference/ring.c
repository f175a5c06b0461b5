/* The ring of spec/ring.md in C: the limit that the figures of bench/bus.ts are held against.
 *
 *   ring throughput PRODUCERS CONSUMERS PAYLOAD MESSAGES BATCH STAMPS RING_BYTES
 *       each producer writes so many messages; prints millions of messages a second
 *   ring roundtrip PAYLOAD ROUNDS RING_BYTES
 *       prints nanoseconds there and back, a line each
 *   ring paced PAYLOAD MESSAGES INTERVAL_NS PARKS RING_BYTES
 *       prints the nanoseconds to write, to read, and from the moment that it was due to be sent
 *       to the reader, a line a message; a consumer that parks sleeps whenever there is nothing
 *
 * Each end is a process, with the batches of the benchmark. With a core for each, it has its own
 * and looks for what is to come; with more processes than cores they sleep in between. A producer
 * writes each payload in place; a consumer reads one double of each cache line (of a payload of 64
 * bytes, all eight), and the sum is checked at the end. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Indices of words of the control block. */
enum {
  TAIL = 32, ANCHOR = 33, LOCK = 64, CLAIMED = 65, CLAIMING = 66, LIMIT = 67,
  QUARANTINE_UNITS = 69, SEQUENCE = 72, SEQUENCE_BEFORE = 74, FLOOR = 96,
  CONSUMERS_ASLEEP = 128, PRODUCERS_ASLEEP = 160, PARTIES = 2048, PARTY = 384
};
/* Of a party's words. */
enum { HEARTBEAT = 4, POSITION = 5, STATE = 6, NEWEST = 6, MESSAGES = 32, BYTES = 34, WRITE = 64 };
enum { READER_SEQUENCE = 32, READER_MESSAGES = 34, READER_BYTES = 36, READER_WITHDRAWN = 46 };
enum { ARRIVAL = 64, READ = 192 };
enum { FAILED = 1, HIDDEN = 1 << 31, MARKED = 1 << 30, BODY = 0xffffff, STAMPED = 0x100 };
enum { STAMP_PERIOD = 64, BATCH_MAX = 64, POLL_MAX = 512, SPINS = 200 };

typedef struct {
  uint8_t *ring;
  int32_t *words;
  double *doubles;
  uint32_t capacity, mask, producers, consumers;
} Lane;

typedef struct {
  Lane lane;
  int32_t *own;
  uint32_t self, head, tail, limit, newest, open_count;
  uint32_t stamp_period, until_stamp;
  uint32_t open[BATCH_MAX];
  int32_t settled[BATCH_MAX];
  double sequence, messages, bytes, stamped;
} Producer;

typedef struct {
  Lane lane;
  int32_t *own;
  uint32_t taken, tail;
  double expected, messages, bytes, sum;
} Consumer;

static _Atomic int32_t *atomic(const Lane *l, uint32_t word) {
  return (_Atomic int32_t *)(l->words + word);
}
static uint32_t acquire(const Lane *l, uint32_t word) {
  return (uint32_t)atomic_load_explicit(atomic(l, word), memory_order_acquire);
}
static void publish(const Lane *l, uint32_t word, uint32_t value) {
  atomic_store_explicit(atomic(l, word), (int32_t)value, memory_order_release);
}
static int exchange(const Lane *l, uint32_t word, int32_t from, int32_t to) {
  return atomic_compare_exchange_strong(atomic(l, word), &from, to);
}
static int32_t *record_at(const Lane *l, uint32_t position) {
  return (int32_t *)(l->ring + (size_t)(position & l->mask) * 8);
}
static uint32_t rest_of(const Lane *l, uint32_t position) {
  return l->capacity - (position & l->mask);
}
static uint32_t units_of(uint32_t body) { return 2 + ((body + 7) >> 3); }
static uint32_t units_of_record(int32_t descriptor) {
  return (uint32_t)descriptor >> 30 == 2 ? descriptor & 0x1fffffff
                                         : units_of((uint32_t)descriptor & BODY);
}
static uint32_t producer_word(uint32_t producer) { return PARTIES + producer * PARTY; }
static uint32_t consumer_word(const Lane *l, uint32_t consumer) {
  return producer_word(l->producers + consumer);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void record_latency(int32_t *buckets, double ns) {
  uint32_t whole = ns < 0 ? 0 : ns > INT32_MAX ? INT32_MAX : (uint32_t)ns;
  uint32_t octave = whole < 4 ? 0 : 31 - (uint32_t)__builtin_clz(whole);
  buckets[whole < 4 ? whole : (octave - 1) * 4 + (whole >> (octave - 2) & 3)]++;
}

static void nap(long microseconds) {
  nanosleep(&(struct timespec){0, microseconds * 1000}, NULL);
}

/* Sleeping: `asleep` is the flag, the word behind it the count. */
static uint32_t wakes(const Lane *l, uint32_t asleep) {
  return (uint32_t)atomic_load(atomic(l, asleep + 1));
}
static void sleep_on(const Lane *l, uint32_t asleep, uint32_t seen) {
  struct timespec timeout = {0, 100000000};
  syscall(SYS_futex, l->words + asleep + 1, FUTEX_WAIT, seen, &timeout, NULL, 0);
}
static void wake_sleepers(const Lane *l, uint32_t asleep) {
  if (atomic_load(atomic(l, asleep)) == 0) return;
  atomic_store(atomic(l, asleep), 0);
  atomic_fetch_add(atomic(l, asleep + 1), 1);
  syscall(SYS_futex, l->words + asleep + 1, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Raises the floor to the slowest consumer, and returns it. */
static uint32_t slowest(const Lane *l, uint32_t head, uint32_t keep) {
  uint32_t most = head - keep;
  for (uint32_t i = 0; i < l->consumers; i++) {
    uint32_t word = consumer_word(l, i);
    if (acquire(l, word + STATE) & FAILED) continue;
    uint32_t lag = head - acquire(l, word + POSITION);
    if (lag > most) most = lag;
  }
  return head - most;
}
static uint32_t raise_floor(const Lane *l, uint32_t head, uint32_t keep) {
  uint32_t floor = slowest(l, head, keep);
  if (acquire(l, FLOOR) == floor) return floor;
  atomic_store(atomic(l, FLOOR), (int32_t)floor);
  uint32_t agreed = slowest(l, head, keep);
  if (agreed != floor) atomic_store(atomic(l, FLOOR), (int32_t)agreed);
  return agreed;
}

static int is_above(uint32_t position, uint32_t limit) { return (int32_t)(position - limit) > 0; }

static void skip(const Lane *l, uint32_t position, uint32_t units) {
  if (units) record_at(l, position)[0] = (int32_t)(HIDDEN | units);
}

/* A channel with one producer: everything is its own but the tail. */
static int32_t *claim_solo(Producer *p, uint32_t body, int32_t mark) {
  const Lane *l = &p->lane;
  uint32_t units = units_of(body), start = p->head, rest = rest_of(l, start);
  uint32_t skipped = units > rest ? rest : 0, end = start + skipped + units;
  if (is_above(end, p->limit)) {
    p->limit = raise_floor(l, p->tail, (uint32_t)l->words[ANCHOR]) + l->capacity;
    if (is_above(end, p->limit)) return NULL;
  }
  skip(l, start, skipped);
  int32_t *record = record_at(l, start + skipped);
  record[0] = mark | (int32_t)body;
  *(double *)(record + 2) = p->sequence += 1;
  p->newest = start + skipped;
  p->head = end;
  return record;
}

static void commit_solo(Producer *p) {
  if (p->head == p->tail) return;
  p->tail = p->head;
  /* Sequentially consistent: the tail first, then the look at who sleeps. */
  atomic_store(atomic(&p->lane, TAIL), (int32_t)p->tail);
  p->lane.words[ANCHOR] = (int32_t)p->newest;
  p->lane.doubles[SEQUENCE / 2] = p->sequence;
}

/* A channel with several producers: claims under a lock, an exchange to settle a record. */
static void lock(Producer *p) {
  const Lane *l = &p->lane;
  int32_t self = 1 + (int32_t)p->self;
  if (exchange(l, LOCK, 0, self)) return;
  for (int spin = 0; spin < SPINS; spin++) {
    for (int pause = 0; pause <= spin >> 2; pause++) __builtin_ia32_pause();
    if (l->words[LOCK] == 0 && exchange(l, LOCK, 0, self)) return;
  }
  for (long microseconds = 50; !exchange(l, LOCK, 0, self);) {
    nap(microseconds);
    if (microseconds < 1000) microseconds *= 2;
  }
}
static void unlock(Producer *p) { publish(&p->lane, LOCK, 0); }

static int32_t *claim_shared(Producer *p, uint32_t body, int32_t mark) {
  const Lane *l = &p->lane;
  lock(p);
  uint32_t units = units_of(body), start = (uint32_t)l->words[CLAIMED], rest = rest_of(l, start);
  uint32_t skipped = units > rest ? rest : 0, end = start + skipped + units;
  if (is_above(end, (uint32_t)l->words[LIMIT])) {
    uint32_t limit = raise_floor(l, start, acquire(l, TAIL)) + l->capacity;
    l->words[LIMIT] = (int32_t)limit;
    if (is_above(end, limit)) return unlock(p), NULL;
  }
  if (l->words[QUARANTINE_UNITS] != 0) abort();
  double before = l->doubles[SEQUENCE / 2];
  l->doubles[SEQUENCE_BEFORE / 2] = before;
  l->words[CLAIMING] = (int32_t)start;
  atomic_signal_fence(memory_order_seq_cst);
  skip(l, start, skipped);
  int32_t *record = record_at(l, start + skipped);
  int32_t owner = (int32_t)(p->self << 24);
  record[0] = HIDDEN | MARKED | owner | (int32_t)body;
  *(double *)(record + 2) = l->doubles[SEQUENCE / 2] = p->sequence = before + 1;
  publish(l, CLAIMED, end);
  unlock(p);
  p->open[p->open_count] = start + skipped;
  p->settled[p->open_count++] = mark | owner | (int32_t)body;
  return record;
}

/* Moves the tail over what is settled. */
static int advance(const Lane *l) {
  for (int has_moved = 0;;) {
    uint32_t tail = (uint32_t)atomic_load(atomic(l, TAIL)), end = tail;
    uint32_t claimed = (uint32_t)atomic_load(atomic(l, CLAIMED));
    while (end != claimed) {
      int32_t descriptor = atomic_load((_Atomic int32_t *)record_at(l, end));
      uint32_t units = units_of_record(descriptor);
      int is_open = (uint32_t)descriptor >> 30 == 3;
      if (is_open || units == 0 || end - tail + units > claimed - tail) break;
      end += units;
    }
    if (end == tail) return has_moved;
    has_moved |= exchange(l, TAIL, (int32_t)tail, (int32_t)end);
  }
}

static void commit_shared(Producer *p) {
  const Lane *l = &p->lane;
  for (uint32_t i = 0; i < p->open_count; i++) {
    int32_t settled = p->settled[i];
    int32_t open = HIDDEN | MARKED | (settled & ~MARKED);
    _Atomic int32_t *descriptor = (_Atomic int32_t *)record_at(l, p->open[i]);
    if (!atomic_compare_exchange_strong(descriptor, &open, settled)) abort();
    p->own[NEWEST] = (int32_t)p->open[i];
  }
  p->open_count = 0;
  advance(l);
}

static uint8_t *claim(Producer *p, uint32_t length) {
  int is_stamped = --p->until_stamp == 0;
  uint32_t body = length + (is_stamped ? 8 : 0);
  int32_t mark = is_stamped ? MARKED : 0;
  int32_t *record = p->lane.producers > 1 ? claim_shared(p, body, mark) : claim_solo(p, body, mark);
  if (record == NULL) return p->until_stamp++, NULL;
  p->messages++;
  p->bytes += length;
  if (!is_stamped) return (uint8_t *)(record + 4);
  p->until_stamp = p->stamp_period;
  double ns = now();
  record[1] = STAMPED;
  *(double *)(record + 4) = ns;
  if (p->stamp_period > 1 || (uint64_t)p->messages % STAMP_PERIOD == 0) p->stamped = ns;
  return (uint8_t *)(record + 6);
}

static void commit(Producer *p) {
  if (p->lane.producers > 1) commit_shared(p);
  else commit_solo(p);
  wake_sleepers(&p->lane, CONSUMERS_ASLEEP);
  ((double *)p->own)[MESSAGES / 2] = p->messages;
  ((double *)p->own)[BYTES / 2] = p->bytes;
  p->own[HEARTBEAT] = 1;
  if (p->stamped == 0) return;
  record_latency(p->own + WRITE, now() - p->stamped);
  p->stamped = 0;
}

static void wait_for_room(Producer *p, uint32_t length) {
  const Lane *l = &p->lane;
  uint32_t most = l->capacity - 2 * units_of(length);
  for (;;) {
    uint32_t seen = wakes(l, PRODUCERS_ASLEEP);
    for (int look = 0; look < 2; look++) {
      uint32_t head = l->producers > 1 ? acquire(l, CLAIMED) : p->head;
      if (head - slowest(l, head, head) <= most) return;
      if (look == 0) atomic_store(atomic(l, PRODUCERS_ASLEEP), 1);
    }
    sleep_on(l, PRODUCERS_ASLEEP, seen);
  }
}

static double read_record(Consumer *c, int32_t *record, uint32_t body, double *received) {
  const double *payload = (const double *)(record + 4);
  uint32_t length = body;
  double stamp = 0, dequeued = 0;
  if (record[0] & MARKED && record[1] & STAMPED) {
    stamp = *payload++;
    length -= 8;
    dequeued = now();
    if (*received == 0) *received = dequeued;
    record_latency(c->own + ARRIVAL, dequeued - stamp);
  }
  double part = 0;
  for (uint32_t i = 0, step = length > 64 ? 8 : 1; i < length / 8; i += step) part += payload[i];
  c->bytes += length;
  c->messages++;
  if (stamp != 0 && (uint64_t)c->messages % STAMP_PERIOD == 0)
    record_latency(c->own + READ, now() - dequeued);
  return part;
}

/* Reads up to `limit` messages into the sum. */
static uint32_t poll(Consumer *c, uint32_t limit) {
  const Lane *l = &c->lane;
  if (c->taken == c->tail) c->tail = acquire(l, TAIL);
  uint32_t count = 0;
  double received = 0;
  while (c->taken != c->tail && count < limit) {
    int32_t *record = record_at(l, c->taken);
    if (record[0] < 0) {
      c->taken += units_of_record(record[0]);
      continue;
    }
    if (*(double *)(record + 2) != c->expected) abort();
    c->expected++;
    uint32_t body = (uint32_t)record[0] & BODY;
    c->sum += read_record(c, record, body, &received);
    c->taken += units_of(body);
    count++;
  }
  return count;
}

static void release(Consumer *c) {
  double *own = (double *)c->own;
  own[READER_SEQUENCE / 2] = c->expected - 1;
  own[READER_WITHDRAWN / 2] = 0;
  own[READER_MESSAGES / 2] = c->messages;
  own[READER_BYTES / 2] = c->bytes;
  c->own[HEARTBEAT] = 1;
  atomic_store((_Atomic int32_t *)(c->own + POSITION), (int32_t)c->taken);
  wake_sleepers(&c->lane, PRODUCERS_ASLEEP);
}

static void park(Consumer *c) {
  const Lane *l = &c->lane;
  uint32_t seen = wakes(l, CONSUMERS_ASLEEP);
  atomic_store(atomic(l, CONSUMERS_ASLEEP), 1);
  if ((uint32_t)atomic_load(atomic(l, TAIL)) == c->taken) sleep_on(l, CONSUMERS_ASLEEP, seen);
}

/* A new channel. */
static Lane make_lane(uint32_t producers, uint32_t consumers, uint32_t ring_bytes) {
  size_t control = (8192 + (producers + consumers) * 1536 + 4095) / 4096 * 4096;
  uint8_t *memory = mmap(NULL, control + ring_bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) abort();
  Lane l = {memory + control, (int32_t *)memory, (double *)memory, ring_bytes / 8,
            ring_bytes / 8 - 1, producers, consumers};
  l.words[CLAIMING] = -1;
  return l;
}

static Producer open_producer(Lane lane, uint32_t self, uint32_t stamp_period) {
  Producer p = {.lane = lane, .own = lane.words + producer_word(self), .self = self,
                .limit = lane.capacity, .stamp_period = stamp_period, .until_stamp = stamp_period};
  return p;
}

static Consumer open_consumer(Lane lane, uint32_t self) {
  Consumer c = {.lane = lane, .own = lane.words + consumer_word(&lane, self), .expected = 1};
  return c;
}

static long cores(void) { return sysconf(_SC_NPROCESSORS_ONLN); }
static void pin(long core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static void fill(uint8_t *target, const double *template, uint32_t payload, double value) {
  if (payload > 64) {
    memcpy(target, template, payload);
    *(double *)target = value;
  } else {
    for (uint32_t i = 0; i < payload / 8; i++) ((double *)target)[i] = value;
  }
}

/* Returns what the sum of the messages has to be. */
static double produce(Producer *p, uint32_t payload, uint32_t messages, uint32_t batch, int parks) {
  double template[payload / 8 + 1], expected = 0;
  memset(template, 0, sizeof template);
  for (uint32_t i = 0, open = 0; i < messages; i++) {
    uint8_t *target;
    while (!(target = claim(p, payload))) {
      if (open) commit(p), open = 0;
      else if (parks) wait_for_room(p, payload);
      else __builtin_ia32_pause();
    }
    fill(target, template, payload, i);
    expected += payload > 64 ? i : (double)i * (payload / 8);
    if (++open == batch) commit(p), open = 0;
  }
  commit(p);
  return expected;
}

static void consume(Consumer *c, uint64_t messages, int parks) {
  for (uint64_t seen = 0; seen < messages;) {
    uint32_t count = poll(c, POLL_MAX);
    seen += count;
    if (count) release(c);
    else if (parks) park(c);
    else __builtin_ia32_pause();
  }
}

typedef struct {
  double sum, end;
  _Atomic int32_t ready;
} Result;

static void *shared(size_t bytes) {
  int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE;
  return mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
}

static int differs(double found, double expected) {
  if (found == expected) return 0;
  return fprintf(stderr, "sum %f, expected %f\n", found, expected), 1;
}

static int throughput(char **words) {
  uint32_t number[7];
  for (int i = 0; i < 7; i++) number[i] = (uint32_t)atoi(words[i]);
  uint32_t producers = number[0], consumers = number[1], payload = number[2], messages = number[3];
  uint32_t batch = number[4], parties = producers + consumers;
  Lane lane = make_lane(producers, consumers, number[6]);
  Result *results = shared(parties * sizeof *results);
  int parks = parties > cores();
  for (uint32_t i = 0; i < parties; i++) {
    if (fork() != 0) continue;
    int is_producer = i < producers;
    if (!parks) pin((long)i);
    Producer p = open_producer(lane, i, number[5] ? number[5] : UINT32_MAX);
    Consumer c = open_consumer(lane, is_producer ? 0 : i - producers);
    results[i].ready = 1;
    for (uint32_t j = 0; j < parties; j++) while (!results[j].ready) nap(100);
    if (is_producer) results[i].sum = produce(&p, payload, messages, batch, parks);
    else consume(&c, (uint64_t)messages * producers, parks), results[i].sum = c.sum;
    results[i].end = now();
    _exit(0);
  }
  for (uint32_t j = 0; j < parties; j++) while (!results[j].ready) nap(50);
  double start = now(), end = 0, expected = 0;
  while (wait(NULL) > 0) {}
  for (uint32_t i = 0; i < producers; i++) expected += results[i].sum;
  for (uint32_t i = producers; i < parties; i++) {
    if (differs(results[i].sum, expected)) return 1;
    if (results[i].end > end) end = results[i].end;
  }
  printf("%f\n", (double)messages * producers / (end - start) * 1e3);
  return 0;
}

static int roundtrip(uint32_t payload, uint32_t rounds, uint32_t ring_bytes) {
  Lane there = make_lane(1, 1, ring_bytes), back = make_lane(1, 1, ring_bytes);
  double template[payload / 8 + 1], expected = 0;
  memset(template, 0, sizeof template);
  int child = fork();
  pin((child == 0) % cores());
  Consumer in = open_consumer(child ? back : there, 0);
  Producer out = open_producer(child ? there : back, 0, UINT32_MAX);
  float *times = malloc(rounds * sizeof *times);
  for (uint32_t i = 0; i < rounds; i++) {
    double start = child ? now() : 0;
    if (!child) while (poll(&in, 1) == 0) {}
    if (!child) release(&in);
    fill(claim(&out, payload), template, payload, i);
    commit(&out);
    if (child) {
      while (poll(&in, 1) == 0) {}
      release(&in);
      times[i] = (float)(now() - start);
    }
    expected += payload > 64 ? i : (double)i * (payload / 8);
  }
  if (!child) _exit(0);
  wait(NULL);
  if (differs(in.sum, expected)) return 1;
  for (uint32_t i = 0; i < rounds; i++) printf("%.0f\n", times[i]);
  return 0;
}

static void receive_paced(Consumer *c, float (*times)[3], uint32_t messages, int parks) {
  for (uint32_t i = 0; i < messages;) {
    double before = now(), sum = c->sum;
    uint32_t count = poll(c, 1);
    if (count == 0 && parks) park(c);
    if (count == 0) continue;
    /* The payload's one double that is not zero says when it was due. */
    times[i][2] = (float)(now() - (c->sum - sum));
    c->sum = 0;
    release(c);
    times[i++][1] = (float)(now() - before);
  }
}

static int paced(uint32_t payload, uint32_t messages, double interval, int parks, uint32_t bytes) {
  Lane lane = make_lane(1, 1, bytes);
  float(*times)[3] = shared(messages * sizeof *times);
  double template[payload / 8 + 1];
  memset(template, 0, sizeof template);
  if (fork() == 0) {
    pin(1 % cores());
    Consumer c = open_consumer(lane, 0);
    receive_paced(&c, times, messages, parks);
    _exit(0);
  }
  pin(0);
  Producer p = open_producer(lane, 0, UINT32_MAX);
  double due = now() + 1e7;
  for (uint32_t i = 0; i < messages; i++, due += interval) {
    for (double left; (left = due - now()) > 0;) if (left > 2e5) nap((long)((left - 1e5) / 1e3));
    double before = now();
    uint8_t *target;
    while (!(target = claim(&p, payload))) {}
    memcpy(target, template, payload);
    *(double *)target = due;
    commit(&p);
    times[i][0] = (float)(now() - before);
  }
  wait(NULL);
  for (uint32_t i = 0; i < messages; i++)
    printf("%.0f %.0f %.0f\n", times[i][0], times[i][1], times[i][2]);
  return 0;
}

int main(int count, char **words) {
  if (count == 9 && !strcmp(words[1], "throughput")) return throughput(words + 2);
  if (count == 5 && !strcmp(words[1], "roundtrip"))
    return roundtrip((uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]), (uint32_t)atoi(words[4]));
  if (count == 7 && !strcmp(words[1], "paced"))
    return paced((uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]), atof(words[4]),
                 atoi(words[5]), (uint32_t)atoi(words[6]));
  return fprintf(stderr, "usage: see the head of ring.c\n"), 2;
}
