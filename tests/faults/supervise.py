"""A real supervisor whose nodes can be told to die (dying_node.py), and whose primary may find its backup over a link.

LINK_PORT is the port of that link. A backup that is promoted keeps the settings that it was started with, and speaks to
its partner without the link. Nodes have the moving clock that the supervisor has (moving_clock.py).
"""

from __future__ import annotations

import os
import sys

from ftwallet.config import Config, load
from ftwallet.supervisor.processes import Launch, node_launch
from ftwallet.supervisor.roles import PRIMARY
from ftwallet.supervisor.run import run
from tests.faults import dying_node, moving_clock

MODULE = "tests.faults.supervise"
LINK_VARIABLE = "LINK_PORT"


def launch_for_a_test(config: Config, http_fd: int, node: str, role: str) -> Launch:
    clock = ["-m", moving_clock.MODULE] if moving_clock.CLOCK_VARIABLE in os.environ else ["-m"]
    program = [sys.executable, *clock, dying_node.MODULE, "node"]
    launch = node_launch(config, http_fd, node, role, program)
    port = os.environ.get(LINK_VARIABLE)
    if role != PRIMARY or port is None:
        return launch
    return launch._replace(environment={**launch.environment, "FTWALLET_BACKUP_GRPC_PORT": port})


if __name__ == "__main__":
    sys.exit(run(load(), lambda: None, lambda supervisor: None, launch_for_a_test))
