// Calls of glibc 2.34 and Linux that Swift's Glibc module leaves out, as unistd.h and spawn.h declare them for _GNU_SOURCE,
// and libcap's sys/capability.h those of glibc itself.
#include <linux/capability.h>
#include <spawn.h>

extern int pipe2(int pipedes[2], int flags);
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
extern int capget(cap_user_header_t header, cap_user_data_t data);
extern int capset(cap_user_header_t header, const cap_user_data_t data);
