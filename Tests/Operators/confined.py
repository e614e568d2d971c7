#!/usr/bin/python3
"""Runs a program as a unit's SystemCallFilter and MemoryDenyWriteExecute would: confined.py UNIT PROGRAM ARGUMENT…

systemd itself is no part of it; the kernel refuses what the unit says that it refuses. Debian's python3-seccomp is for
Debian's python3.
"""

import ctypes
import errno
import os
import re
import subprocess
import sys

import seccomp

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1


def calls(group, seen=frozenset()):
    """The system calls of a group such as @system-service."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    found = set()
    for line in text.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@") and word not in seen:
            found |= calls(word, seen | {word})
        elif word and not word.startswith(("#", "@")):
            found.add(word)
    return found


def main():
    unit, command = open(sys.argv[1]).read(), sys.argv[2:]
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        for group in line.lstrip("~").split():
            members = calls(group) if group.startswith("@") else {group}
            allowed = allowed - members if line.startswith("~") else allowed | members
    assert allowed, f"{sys.argv[1]} has no SystemCallFilter"
    libc = ctypes.CDLL(None, use_errno=True)
    if re.search(r"^MemoryDenyWriteExecute=yes", unit, re.MULTILINE):
        # Kernels before 6.3 have no such call; systemd has a filter of its own there.
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in allowed:
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, ValueError):
            pass  # of another processor
    rules.load()
    os.execv(command[0], command)


main()
