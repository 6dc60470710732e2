"""Each rule of the pair left out, with the smallest bounds in which the search finds what goes wrong without it."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.protocol import Bounds


class Break(NamedTuple):
    """`invariant`: the first to fall, in a shortest history."""

    name: str
    rule: str
    invariant: str
    bound: Bounds


_LOG = Bounds()
_WIPED = Bounds(wipes=1)
_COPIES = Bounds(appends=1, epochs=3, copies=1, wire=0)  # the alignment carries what there is
_SYNC = _COPIES._replace(syncs=1, sessions=3)
_READS = Bounds(reads=1, resignations=1)

BREAKS = (
    Break("ack-alone", "shrink before answering alone", "durable", _LOG),
    Break("send-unsynced", "what is sent and counted is durable on the primary first", "durable", _LOG),
    Break("promote-any", "only a node in the in-sync set is promoted", "durable", _LOG),
    Break("names-only", "the in-sync set names incarnations", "durable", _WIPED),
    Break("no-fence", "a backup refuses messages of an older epoch or session", "rolled", _LOG),
    Break("settle-unfenced", "the backup keeps the new epoch before it tells its log", "rolled", _LOG),
    Break("roll-back-pending", "a restarted primary asks before it rolls anything back", "rolled", _LOG),
    Break("roll-back-alone", "a primary whose backup is away rolls forward", "rolled", _LOG),
    Break("join-early", "the backup holds all that was answered alone before it joins", "durable", _LOG),
    Break("join-acks-alone", "nothing is answered alone while the join is asked", "durable", _LOG),
    Break("join-whoever", "the join names the incarnation whose acks were counted", "durable", _WIPED),
    Break("no-compare", "the witness compares the epoch that a proposal was made at", "durable", _LOG),
    Break("same-epoch", "every start of a primary takes a new epoch", "rolled", _LOG),
    Break("old-acks", "an ack counts in its own session only", "durable", _WIPED),
    Break("keep-tail", "a backup cuts what the primary does not have", "durable", _LOG),
    Break("gaps", "a backup takes only the next record and acks only what it has", "durable", Bounds(operations=2)),
    Break("retry-blind", "a retry is looked up before it is appended", "once", _LOG),
    Break("keep-incarnation", "a node gives its incarnation up before its log", "durable", Bounds(damages=1)),
    Break("copy-believed", "an old copy is recognised by its boot number", "durable", _COPIES._replace(wire=1)),
    Break("copy-outside", "an old copy gives its incarnation up outside of the set too", "rolled", _COPIES),
    Break("mark-ignored", "a copy from the middle of a state sync is recognised by its mark", "durable", _SYNC),
    Break("count-first", "the boot number is durable before the witness counts it", "recognised", _COPIES),
    Break("count-blindly", "the witness counts a start once", "recognised", _COPIES),
    Break("promote-living", "nobody is promoted beside a living primary that has not resigned", "read", _READS),
    Break("resign-for-a-while", "a resignation is taken back by the supervisor alone", "read", _READS),
    Break("read-unsettled", "a primary that has not settled its log answers no read", "read", _READS),
)
