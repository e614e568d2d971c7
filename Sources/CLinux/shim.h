// Calls of glibc 2.34 and Linux that Swift's Glibc module leaves out, as unistd.h and spawn.h declare them for _GNU_SOURCE.
#include <spawn.h>

extern int pipe2(int pipedes[2], int flags);
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
