/* The ring of spec/ring.md in C: the limit that the figures of bench/bus.ts are held against.
 *
 *   ring throughput PAYLOAD MESSAGES BATCH RING_BYTES     prints nanoseconds a message
 *   ring roundtrip PAYLOAD ROUNDS RING_BYTES              prints a nanosecond figure a line
 *
 * Two processes, one on each of the first two cores, as in the benchmark: one writes each payload
 * in place and publishes the tail once a batch; the other reads one double of each cache line (of
 * a payload of 64 bytes, all eight), and the sum is checked at the end. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONTROL = 16384, TAIL = 32, POSITION = 256, PRODUCER_ASLEEP = 112, CONSUMERS_ASLEEP = 96 };

typedef struct {
  uint8_t *base;
  _Atomic int32_t *words;
  int32_t *ring;
  uint32_t mask, capacity, head, tail, limit, taken;
  double sequence;
} Channel;

static Channel open_channel(void *memory, uint32_t ring_bytes) {
  Channel c = {0};
  c.base = memory;
  c.words = memory;
  c.ring = (int32_t *)(c.base + CONTROL);
  c.capacity = ring_bytes / 8;
  c.mask = c.capacity - 1;
  c.limit = c.capacity;
  return c;
}

static uint8_t *claim(Channel *c, uint32_t length) {
  uint32_t units = 2 + ((length + 7) >> 3), start = c->head, rest = c->capacity - (start & c->mask);
  uint32_t padding = units > rest ? rest : 0, end = start + padding + units;
  if ((int32_t)(end - c->limit) > 0) {
    int32_t position = atomic_load_explicit(&c->words[POSITION], memory_order_acquire);
    c->limit = (uint32_t)position + c->capacity;
    if ((int32_t)(end - c->limit) > 0) return NULL;
  }
  if (padding) {
    c->ring[(start & c->mask) * 2] = -1;
    start += padding;
  }
  int32_t *record = c->ring + (size_t)(start & c->mask) * 2;
  record[0] = (int32_t)length;
  *(double *)(record + 2) = c->sequence += 1;
  c->head = end;
  return (uint8_t *)(record + 4);
}

static void commit(Channel *c) {
  c->tail = c->head;
  atomic_store(&c->words[TAIL], (int32_t)c->tail);
  if (atomic_load(&c->words[CONSUMERS_ASLEEP])) abort();
}

static void release(Channel *c) {
  atomic_store(&c->words[POSITION], (int32_t)c->taken);
  if (atomic_load(&c->words[PRODUCER_ASLEEP])) abort();
}

/* Reads up to `limit` messages into `*sum`. */
static uint32_t poll(Channel *c, uint32_t limit, double *sum) {
  if (c->taken == c->tail)
    c->tail = (uint32_t)atomic_load_explicit(&c->words[TAIL], memory_order_acquire);
  uint32_t count = 0;
  while (c->taken != c->tail && count < limit) {
    int32_t *record = c->ring + (size_t)(c->taken & c->mask) * 2;
    int32_t length = record[0];
    if (length < 0) {
      c->taken += c->capacity - (c->taken & c->mask);
      continue;
    }
    const double *payload = (const double *)(record + 4);
    double part = 0;
    for (int i = 0, step = length > 64 ? 8 : 1; i < length / 8; i += step) part += payload[i];
    *sum += part;
    c->taken += 2 + (((uint32_t)length + 7) >> 3);
    count++;
  }
  return count;
}

static void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *map(uint32_t ring_bytes) {
  return mmap(NULL, CONTROL + (size_t)ring_bytes, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

static void fill(uint8_t *target, const double *template, uint32_t payload, double value) {
  if (payload > 64) {
    memcpy(target, template, payload);
    *(double *)target = value;
  } else {
    for (uint32_t i = 0; i < payload / 8; i++) ((double *)target)[i] = value;
  }
}

static int throughput(uint32_t payload, uint32_t messages, uint32_t batch, uint32_t ring_bytes) {
  void *memory = map(ring_bytes);
  double *result = (double *)((uint8_t *)memory + 8192);
  if (fork() == 0) {
    pin(1);
    Channel c = open_channel(memory, ring_bytes);
    double sum = 0;
    for (uint32_t seen = 0; seen < messages;) {
      uint32_t count = poll(&c, 512, &sum);
      if (count) release(&c);
      seen += count;
    }
    *result = sum;
    _exit(0);
  }
  pin(0);
  Channel c = open_channel(memory, ring_bytes);
  double *template = calloc(1, payload + 8), expected = 0;
  double start = now();
  uint32_t pending = 0;
  for (uint32_t i = 0; i < messages; i++) {
    uint8_t *target;
    while (!(target = claim(&c, payload)))
      if (pending) commit(&c), pending = 0;
    fill(target, template, payload, i);
    expected += payload > 64 ? i : (double)i * (payload / 8);
    if (++pending == batch) commit(&c), pending = 0;
  }
  commit(&c);
  wait(NULL);
  double elapsed = now() - start;
  if (*result != expected) return fprintf(stderr, "sum %f, expected %f\n", *result, expected), 1;
  printf("%f\n", elapsed / messages);
  return 0;
}

static int roundtrip(uint32_t payload, uint32_t rounds, uint32_t ring_bytes) {
  void *there = map(ring_bytes), *back = map(ring_bytes);
  double *template = calloc(1, payload + 8), sum = 0;
  int child = fork();
  pin(child == 0);
  Channel in = open_channel(child ? back : there, ring_bytes);
  Channel out = open_channel(child ? there : back, ring_bytes);
  float *times = malloc(rounds * sizeof *times);
  for (uint32_t i = 0; i < rounds; i++) {
    double start = child ? now() : 0;
    if (!child) while (poll(&in, 1, &sum) == 0) {}
    if (!child) release(&in);
    uint8_t *target = claim(&out, payload);
    fill(target, template, payload, i);
    commit(&out);
    if (child) {
      while (poll(&in, 1, &sum) == 0) {}
      release(&in);
      times[i] = (float)(now() - start);
    }
  }
  if (!child) _exit(0);
  wait(NULL);
  double expected = 0;
  for (uint32_t i = 0; i < rounds; i++) expected += payload > 64 ? i : (double)i * (payload / 8);
  if (sum != expected) return fprintf(stderr, "sum %f, expected %f\n", sum, expected), 1;
  for (uint32_t i = 0; i < rounds; i++) printf("%.0f\n", times[i]);
  return 0;
}

int main(int count, char **arguments) {
  if (count == 6 && strcmp(arguments[1], "throughput") == 0)
    return throughput((uint32_t)atoi(arguments[2]), (uint32_t)atoi(arguments[3]),
                      (uint32_t)atoi(arguments[4]), (uint32_t)atoi(arguments[5]));
  if (count == 5 && strcmp(arguments[1], "roundtrip") == 0)
    return roundtrip((uint32_t)atoi(arguments[2]), (uint32_t)atoi(arguments[3]),
                     (uint32_t)atoi(arguments[4]));
  return fprintf(stderr, "usage: see the head of ring.c\n"), 2;
}
