/* Preloaded by futex-any.test.ts: a kernel from before futex_waitv(2). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>

long syscall(long number, ...) {
  static long (*next)(long, ...);
  long words[6];
  va_list list;
  va_start(list, number);
  for (int index = 0; index < 6; index++) words[index] = va_arg(list, long);
  va_end(list);
  if (number == 449) {
    errno = ENOSYS;
    return -1;
  }
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, "syscall");
  return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
