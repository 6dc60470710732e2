"""Failovers as short texts that an operator can read: commands, and beside each the trace that must be seen.

    python -m tests.scenarios                     every scenario; the first difference is shown as a diff
    python -m tests.scenarios FILE ... --update   write the traces that are seen now, after a deliberate change

A scenario is a text file. Its first lines, which begin with `#`, say what an operator learns from it. Then come blocks:
one command a line, a line of dashes, what must be seen, an empty line. Every scenario begins with a pair that is in
sync, a the primary and b the backup, and ends, unseen, with peace: every fault is taken away, every operation that is
still in doubt is asked again, and then both nodes must have the same log and no invariant may be broken.

The world is that of `tests.simulation`: the shipped nodes on simulated disks, network and clock. Here every delay is
the same, and a disk that loses power loses all that it may, so that a text comes to the same trace every time.
`commands.py` has the commands, `words.py` the words of the trace, `runner.py` the format.
"""
