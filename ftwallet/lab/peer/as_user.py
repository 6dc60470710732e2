"""`python -m ftwallet.lab.peer.as_user UID GID PID PROGRAM ...`: become that user, then PROGRAM, which ends with PID.

PostgreSQL refuses to run as root. The kernel forgets whom a process is to die with when the user changes, so the
user comes first and the promise after it; it outlives the change of program.
"""

from __future__ import annotations

import os
import sys

from ftwallet import platform


def main() -> None:
    """Turn into the program that the command line names."""
    uid, gid, parent_pid = map(int, sys.argv[1:4])
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    platform.die_with_parent(parent_pid)
    os.execv(sys.argv[4], sys.argv[4:])


if __name__ == "__main__":
    main()
