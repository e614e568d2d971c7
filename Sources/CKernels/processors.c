// sched_getaffinity is a GNU extension that Swift's Glibc module does not show.

#define _GNU_SOURCE
#include <sched.h>
#include <unistd.h>

#include "kirie_kernels.h"

int kirie_available_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int kirie_pin_thread(int index) {
    cpu_set_t set;
    if (index < 0 || sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &set) || index-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        return sched_setaffinity(0, sizeof one, &one) == 0;
    }
    return 0;
}
