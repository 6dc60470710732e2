"""The words of a trace: what a world says, without the noise and without what changes from one machine to another."""

from __future__ import annotations

import re

# Said by the nodes on every way to every answer, or a step between two states that are both told.
_NOISE = (
    r"Backup is (greeted|aligning|waiting)",
    r"Primary is (settling|closing-in|joining|shrinking)",
    r"WAL: (Recorded PENDING|Committed|Executed|Found)",
    r"Primary service initialized",
    r"Connected to backup server",
    r"Backup server at .* does not answer",
    r"Session with the backup ended",
    r"State sync: \d+ of \d+ bytes",
    r"answers ",
    r"grants \w+ boot",
    r"Checkpoint written",
)
_IS_NOISE = re.compile("|".join(_NOISE))

_SAID_OTHERWISE = (
    (r"^Primary is (\S+) in epoch (\d+): ", r"as primary is \1 in epoch \2: "),
    (r"^Backup is (\S+): ", r"as backup is \1: "),
    (r"^Recovered to lsn (\d+) in .* (\d+) PENDING.*$", r"has recovered to lsn \1, \2 PENDING"),
    (r"^WAL: Cut PENDING transaction", "cuts PENDING"),
    (r"^WAL: Rolling back PENDING transaction", "rolls back PENDING"),
    (r"^WAL: Rolled back transaction", "has ROLLED_BACK"),
    (r"\d{8}T\d{6}(\.\d{6})?Z", "<time>"),
    (r"/data/", ""),  # where the world lies is left out of its trace already
    (r"\d+ bytes", "some bytes"),
)


def worded(trace_line: str) -> str | None:
    """One line of a world's trace as a scenario shows it, or None for noise."""
    _, who, what = trace_line.split(maxsplit=2)
    if who == "world" or _IS_NOISE.match(what):
        return None
    for pattern, otherwise in _SAID_OTHERWISE:
        what = re.sub(pattern, otherwise, what)
    return f"{who} {what}" if who != "client" else what
