/* A reader of a queue, written from spec/segment.md alone.
 *
 *   peer read DIRECTORY FROM COUNT   prints COUNT records from the sequence FROM on, and waits for
 *                                    what is not there yet; with COUNT 0, all that are there
 *   peer writer DIRECTORY            prints its epoch, process id, whether it is open, where it is
 *                                    (segment, end, sequence), and the sequence that is durable
 *   peer reader FILE                 prints what a reader has committed, its epoch, what it took
 *
 * Of each record it prints sequence, type, time, epoch, bytes of the payload and their CRC-32. It
 * checks all that the page says; anything that is not as it should be ends the program with a word
 * about it, but for what a power loss leaves: that is behind the end. */
#define _GNU_SOURCE
#include <dirent.h>
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
#include <unistd.h>

enum { CHECKSUM = 12, NUMBER = 24, BYTES = 28, RECORDS_START = 32 };
enum { FIRST_SEQUENCE = 64, LATEST_NS = 72, SEGMENT_EPOCH = 80, BEGUN_CRC = 84, BEGUN = 88 };
enum { LAST_SEQUENCE = 128, LAST_NS = 136, END = 144, SEALED_CRC = 148, SEALED = 152 };
enum { DURABLE = 192, INDEXED = 196, INDEX = 256 };
enum { EPOCH = 64, PID = 72, OPEN = 76, BOOT = 88, POSITION = 128, POSITION_END = 132 };
enum { POSITION_SEQUENCE = 136, POSITION_CHECK = 144, ASLEEP = 192, WAKES = 196 };
enum { DURABLE_SEQUENCE = 256, SLOTS = 64, TAKEN = 224 };
enum { NONE, FAST, CRC32C };

static void fail(const char *what) {
  fprintf(stderr, "peer: %s\n", what);
  exit(1);
}

typedef struct {
  uint8_t *base;
  uint32_t bytes;
} Memory;

static uint32_t u32(Memory memory, uint32_t at) { return *(uint32_t *)(memory.base + at); }
static uint64_t u64(Memory memory, uint32_t at) { return *(uint64_t *)(memory.base + at); }
static double f64(Memory memory, uint32_t at) { return *(double *)(memory.base + at); }
static _Atomic uint32_t *word(Memory memory, uint32_t at) {
  return (_Atomic uint32_t *)(memory.base + at);
}
static uint32_t load(Memory memory, uint32_t at) { return atomic_load(word(memory, at)); }

/* Both kinds of CRC: they differ in their polynomial. */
static uint32_t crc(uint32_t polynomial, uint32_t before, const uint8_t *bytes, size_t length) {
  static uint32_t tables[2][256];
  uint32_t *table = tables[polynomial == 0x82f63b78], sum = ~before;
  for (uint32_t byte = 0; table[255] == 0 && byte < 256; byte++) {
    uint32_t entry = byte;
    for (int bit = 0; bit < 8; bit++) entry = entry >> 1 ^ (entry & 1 ? polynomial : 0);
    table[byte] = entry;
  }
  while (length--) sum = sum >> 8 ^ table[(sum ^ *bytes++) & 255];
  return ~sum;
}
static uint32_t crc32(const uint8_t *bytes, size_t length) {
  return crc(0xedb88320, 0, bytes, length);
}

static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static uint32_t xxhash32(uint32_t seed, const uint8_t *bytes, size_t length) {
  const uint32_t p1 = 2654435761u, p2 = 2246822519u, p3 = 3266489917u, p4 = 668265263u;
  const uint32_t p5 = 374761393u;
  const uint8_t *end = bytes + length;
  uint32_t hash = seed + p5, word;
  if (length >= 16) {
    uint32_t sums[4] = {seed + p1 + p2, seed + p2, seed, seed - p1};
    for (; end - bytes >= 16; bytes += 16) {
      for (int lane = 0; lane < 4; lane++) {
        memcpy(&word, bytes + 4 * lane, 4);
        sums[lane] = rotate(sums[lane] + word * p2, 13) * p1;
      }
    }
    hash = rotate(sums[0], 1) + rotate(sums[1], 7) + rotate(sums[2], 12) + rotate(sums[3], 18);
  }
  hash += (uint32_t)length;
  for (; end - bytes >= 4; bytes += 4) {
    memcpy(&word, bytes, 4);
    hash = rotate(hash + word * p3, 17) * p4;
  }
  for (; bytes < end; bytes++) hash = rotate(hash + *bytes * p5, 11) * p1;
  hash = (hash ^ hash >> 15) * p2;
  hash = (hash ^ hash >> 13) * p3;
  return hash ^ hash >> 16;
}

/* Maps a file, and checks its first line; its identity has to be that of `identity`, if any. */
static Memory map(const char *path, const char *magic, int is_shared, const uint64_t *identity) {
  struct stat status;
  int file = open(path, is_shared ? O_RDWR : O_RDONLY);
  if (file < 0 || fstat(file, &status)) fail("no such file");
  if (status.st_size < 4096 || status.st_size > 1 << 30) fail("size of a file");
  int access = is_shared ? PROT_READ | PROT_WRITE : PROT_READ;
  Memory memory = {mmap(NULL, (size_t)status.st_size, access, MAP_SHARED, file, 0),
                   (uint32_t)status.st_size};
  if (memory.base == MAP_FAILED) fail("cannot map");
  close(file);
  if (memcmp(memory.base, magic, 8) || u32(memory, 8) != 2) fail("magic or version");
  if (u32(memory, 60) != crc32(memory.base, 60)) fail("CRC of a first line");
  if (identity && u64(memory, 16) != *identity) fail("a file of another queue");
  return memory;
}

/* Where a walk is: the segment, the next record in it, and what is known of those before. */
static const char *directory;
static Memory control, segment;
static uint32_t number, offset, epoch;
static uint64_t sequence, latest;
static int is_from_start;

static uint32_t space_of(uint32_t length) { return (length + 7) & ~7u; }

/* Whether a writer has been there in this boot: then nothing that it found or wrote is missing. */
static int is_settled(void) {
  static uint8_t boot[16];
  static int is_known;
  FILE *file = is_known ? NULL : fopen("/proc/sys/kernel/random/boot_id", "r");
  for (int digit = 0, byte; file && digit < 32 && (byte = fgetc(file)) != EOF;) {
    if (byte == '-') continue;
    boot[digit / 2] = (uint8_t)(boot[digit / 2] << 4 | (byte > '9' ? byte - 'a' + 10 : byte - '0'));
    digit++;
  }
  if (file) fclose(file);
  is_known = 1;
  return memcmp(control.base + BOOT, boot, sizeof boot) == 0;
}

/* Something does not hold: damage, or what a power loss has left behind the end. */
static int doubt(const char *what) {
  if (is_settled() || (segment.base && offset < load(segment, DURABLE))) fail(what);
  return 0;
}

/* Returns 0 where there is no such segment, or where it is only reserved. Its first sequence has to
 * be the one expected, if any. */
static int open_segment(uint32_t wanted, uint64_t expected) {
  char path[4096];
  uint64_t identity = u64(control, 16);
  snprintf(path, sizeof path, "%s/%010u.segment", directory, wanted);
  if (access(path, F_OK)) return 0;
  Memory memory = map(path, "GAPLESSQ", 0, &identity);
  uint32_t entries = (memory.bytes + 65535) / 65536;
  if (memory.bytes % 4096 || u32(memory, BYTES) != memory.bytes) fail("size of a segment");
  if (u32(memory, NUMBER) != wanted || u32(memory, CHECKSUM) > CRC32C) fail("line 0");
  if (u32(memory, RECORDS_START) != (256 + 24 * entries + 63) / 64 * 64) fail("recordsStart");
  int is_begun = load(memory, BEGUN) == 1;
  if (is_begun && u32(memory, BEGUN_CRC) != crc32(memory.base + FIRST_SEQUENCE, 20))
    is_begun = doubt("line 1");
  if (is_begun && expected && u64(memory, FIRST_SEQUENCE) != expected)
    is_begun = doubt("first sequence of a segment");
  if (!is_begun) return munmap(memory.base, memory.bytes), 0;
  if (segment.base) munmap(segment.base, segment.bytes);
  segment = memory;
  number = wanted;
  offset = u32(memory, RECORDS_START);
  sequence = u64(memory, FIRST_SEQUENCE);
  epoch = u32(memory, SEGMENT_EPOCH);
  latest = u64(memory, LATEST_NS);
  is_from_start = 1;
  return 1;
}

/* What the seal line says is what the walk has found. */
static void check_seal(void) {
  if (load(segment, SEALED) == 0) return;
  if (u32(segment, SEALED_CRC) != crc32(segment.base + LAST_SEQUENCE, 20)) fail("line 2");
  if (u32(segment, END) != offset) fail("end of a segment");
  if (u64(segment, LAST_SEQUENCE) != sequence - 1) fail("last sequence of a segment");
  if (is_from_start && u64(segment, LAST_NS) != latest) fail("latest time of a segment");
}

/* The length of the record at `offset`; 0: nothing yet, -1: the segment has ended. */
static int32_t look(void) {
  if (offset == segment.bytes) return -1;
  int32_t length = (int32_t)load(segment, offset);
  if (length == 0 || length == -1) return length;
  if (length < 32 || (uint32_t)length > segment.bytes - offset) return doubt("length of a record");
  if (u64(segment, offset + 8) != sequence) return doubt("sequence of a record");
  if (u32(segment, offset + 28) < epoch) return doubt("epoch of a record");
  const uint8_t *bytes = segment.base + offset + 8;
  uint32_t kind = u32(segment, CHECKSUM), counted = (uint32_t)length - 8, sum = 0;
  if (kind == FAST) sum = xxhash32(offset, bytes, counted);
  if (kind == CRC32C) sum = crc(0x82f63b78, offset, bytes, counted);
  if (kind == NONE && !is_settled() && offset >= load(segment, DURABLE)) return 0;
  if (kind != NONE && u32(segment, offset + 4) != sum) return doubt("sum of a record");
  return length;
}

static void advance(uint32_t length) {
  epoch = u32(segment, offset + 28);
  uint64_t time = u64(segment, offset + 16);
  if (time > latest) latest = time;
  sequence++;
  offset += space_of(length);
}

/* Goes to the last record that the index knows before `from`, and checks all its entries. */
static void jump(uint64_t from) {
  uint64_t first = u64(segment, FIRST_SEQUENCE);
  uint32_t entries = load(segment, INDEXED);
  if (entries > (segment.bytes + 65535) / 65536) fail("too many entries");
  for (uint32_t entry = 0; entry < entries; entry++) {
    uint32_t at = INDEX + 24 * entry, record = u32(segment, at);
    if (u32(segment, at + 16) != crc32(segment.base + at, 16)) fail("CRC of an entry");
    uint64_t there = first + u32(segment, at + 4);
    if (u64(segment, record + 8) != there) fail("an entry of another record");
    if (there > from) return;
    offset = record;
    sequence = there;
    latest = u64(segment, at + 8);
    is_from_start = 0;
  }
}

/* Opens the segment in which `from` is, or the oldest one that is there. */
static void seek(uint64_t from) {
  uint32_t oldest = UINT32_MAX, newest = 0, found;
  DIR *folder = opendir(directory);
  if (!folder) fail("no directory");
  for (struct dirent *entry; (entry = readdir(folder));) {
    int length = 0;
    if (sscanf(entry->d_name, "%10u.segment%n", &found, &length) != 1 || length != 18) continue;
    if (entry->d_name[18]) continue;
    if (found < oldest) oldest = found;
    if (found > newest) newest = found;
  }
  closedir(folder);
  while (newest > oldest && (!open_segment(newest, 0) || sequence > from)) newest--;
  if (!open_segment(newest, 0)) fail("no segment has been begun");
  jump(from);
}

/* Goes on in the next segment, if that has been begun. */
static int open_next(void) {
  uint64_t time = latest;
  int is_whole = is_from_start;
  check_seal();
  /* One without a record may have been made anew, by the writer after the next. */
  int is_empty = offset == u32(segment, RECORDS_START);
  if (is_empty && open_segment(number, sequence) && load(segment, offset) != UINT32_MAX) return 1;
  if (!open_segment(number + 1, sequence)) return 0;
  if (is_whole && latest != time) fail("latest time before a segment");
  return 1;
}

/* Whether there is something behind the last record; if not, sleeps until something is written. */
static int has_more(int is_patient) {
  struct timespec timeout = {1, 0};
  uint32_t seen = load(control, WAKES);
  if (is_patient) atomic_store(word(control, ASLEEP), 1);
  int32_t length = look();
  if (length > 0 || (length == -1 && open_next())) return 1;
  if (!is_patient) return 0;
  fflush(stdout);
  syscall(SYS_futex, word(control, WAKES), FUTEX_WAIT, seen, &timeout, NULL, 0);
  return 1;
}

static void print_record(uint32_t length) {
  uint32_t bytes = length - 32;
  printf("%lu %u %lu %u %u %u\n", sequence, u32(segment, offset + 24), u64(segment, offset + 16),
         u32(segment, offset + 28), bytes, crc32(segment.base + offset + 32, bytes));
}

static void read_records(uint64_t from, uint64_t count) {
  uint64_t printed = 0;
  seek(from);
  while (count == 0 || printed < count) {
    int32_t length = look();
    if (length > 0) {
      if (sequence >= from) print_record((uint32_t)length), printed++;
      advance((uint32_t)length);
    } else if (!has_more(count != 0)) {
      return;
    }
  }
}

static void show_writer(void) {
  uint32_t place = u32(control, POSITION), end = u32(control, POSITION_END);
  double newest = f64(control, POSITION_SEQUENCE);
  uint32_t check = place ^ end ^ (uint32_t)(uint64_t)newest ^ 0x4741504c;
  if (place == 0 || u32(control, POSITION_CHECK) != check) fail("position");
  printf("%u %u %u %u %u %.0f %.0f\n", load(control, EPOCH), u32(control, PID),
         load(control, OPEN), place, end, newest, f64(control, DURABLE_SEQUENCE));
}

static void show_reader(const char *path) {
  Memory memory = map(path, "GAPLESSR", 0, NULL);
  uint32_t newest = 0;
  for (uint32_t slot = SLOTS; slot < SLOTS + 128; slot += 64) {
    if (u32(memory, slot + 16) != crc32(memory.base + slot, 16)) continue;
    if (newest && (int32_t)(u32(memory, slot + 12) - u32(memory, newest + 12)) < 0) continue;
    newest = slot;
  }
  if (!newest) fail("it has committed nothing");
  printf("%.0f %u %.0f\n", f64(memory, newest), u32(memory, newest + 8), f64(memory, TAKEN));
}

int main(int count, char **words) {
  if (count < 3) fail("usage");
  if (!strcmp(words[1], "reader")) return show_reader(words[2]), 0;
  char path[4096];
  directory = words[2];
  snprintf(path, sizeof path, "%s/queue.control", directory);
  control = map(path, "GAPLESSC", 1, NULL);
  if (control.bytes != 4096) fail("size of the control file");
  if (!strcmp(words[1], "writer")) show_writer();
  else if (!strcmp(words[1], "read") && count == 5)
    read_records(strtoull(words[3], NULL, 10), strtoull(words[4], NULL, 10));
  else fail("usage");
  return 0;
}
