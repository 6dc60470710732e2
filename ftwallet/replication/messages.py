"""What the two nodes say to each other within a session. Pure values; `ftwallet/rpc/mapping.py` puts them on the wire.

A session is one ordered stream that the primary opens:

    primary                                  backup
    Hello(who I am)                    ->    makes the epoch durable, or refuses an older one
                                       <-    HelloReply(who I am, durable_lsn, history)
    Begin(common_lsn, chain at it)     ->    proves the common prefix by its hash, cuts what goes beyond it
                                       <-    Ack(durable_lsn), CutReport(what was cut)
    Blocks, Blocks, ... CommitMark     ->    appends, syncs, executes
                                       <-    Ack(durable_lsn), cumulative

To a backup too far behind, Begin offers a checkpoint, a state sync. One that has not given up its incarnation for that
yet does so and ends the session, to be greeted anew; any other answers with what it holds of this file already:

    Begin(..., checkpoint)             ->    cuts what goes beyond the common prefix
                                       <-    CutReport(what was cut), Held(bytes)
    Slice, Slice, ...                  ->    writes, syncs
                                       <-    Held(bytes), cumulative
                                             when whole: checks its fingerprint, installs it instead of its log
                                       <-    Ack(the checkpoint's lsn)
    Blocks, Blocks, ... CommitMark     ->    as above

Every message of the primary carries its epoch, and every message its session.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Identity(NamedTuple):
    """Who a node is; the incarnation is made with its data directory."""

    cluster_id: str
    node: str
    incarnation: str


class EpochEnd(NamedTuple):
    """The last lsn that a log holds of one epoch; a log's history is a list of these in order."""

    epoch: int
    last_lsn: int


SLICE_BYTES = 128 * 1024
"""The most that one Slice carries of a checkpoint's file: little, so that live traffic and heartbeats do not wait."""


class CheckpointFile(NamedTuple):
    """A checkpoint as the primary offers it: where it stands, and what its file is.

    `chain` and `digest` are those at `lsn`, `history` is that of the log up to it. `size` in bytes; `fingerprint` is
    the SHA-256 of the whole file, in hex: equal fingerprints, equal files. `format_version` is that of the file.
    """

    lsn: int
    chain: bytes
    digest: bytes
    history: tuple[EpochEnd, ...]
    size: int
    fingerprint: str
    format_version: int = 1


class LoggedBlock(Protocol):
    """What the protocol needs to know of a journal block; its bytes travel through untouched."""

    @property
    def epoch(self) -> int:
        """The epoch that it was written in."""

    @property
    def first_lsn(self) -> int:
        """The lsn of its first record."""

    @property
    def last_lsn(self) -> int:
        """The lsn of its last record."""

    @property
    def commit_lsn(self) -> int:
        """How far the writer's commit had come when it was written."""


class Hello(NamedTuple):
    """The primary's first message of a session."""

    session: int
    epoch: int
    sender: Identity


class HelloReply(NamedTuple):
    """The backup has made the epoch durable; this is what its log holds.

    `partial`: the fingerprint of the checkpoint that it has a part of, from a state sync that was broken off.
    """

    session: int
    sender: Identity
    durable_lsn: int
    history: tuple[EpochEnd, ...]
    partial: str = ""


class Begin(NamedTuple):
    """`chain`: the hash chain of our log at `common_lsn`. `in_sync`: whether the backup stands in the in-sync set.

    `checkpoint`: to be installed before any block is sent. Only with one may `chain` be empty: our log begins after
    `common_lsn` then. `end_lsn`: where our log ends.
    """

    session: int
    epoch: int
    common_lsn: int
    chain: bytes
    in_sync: bool
    end_lsn: int = 0
    checkpoint: CheckpointFile | None = None


class Blocks(NamedTuple):
    """Whole journal frames in order, the same bytes as on the primary's disk; `end_lsn`: where its log ends."""

    session: int
    epoch: int
    blocks: tuple[LoggedBlock, ...]
    end_lsn: int = 0


class Slice(NamedTuple):
    """Bytes of the offered checkpoint's file from `offset` on; `end_lsn`: where the primary's log ends."""

    session: int
    epoch: int
    offset: int
    data: bytes
    end_lsn: int = 0


class CommitMark(NamedTuple):
    """Sent when idle, and whenever the in-sync set has changed."""

    session: int
    epoch: int
    commit_lsn: int
    in_sync: bool


class Ack(NamedTuple):
    """Everything up to `durable_lsn` is durable and executed on the backup."""

    session: int
    durable_lsn: int


class Held(NamedTuple):
    """The first `size` bytes of the offered checkpoint's file are durable on the backup."""

    session: int
    size: int


class CutReport(NamedTuple):
    """What the backup has cut from its log, never answered: encoded operations, for ROLLED_BACK to go on record."""

    session: int
    operations: bytes


class Refusal(NamedTuple):
    """The backup ends the session."""

    session: int
    reason: str


ToBackup = Hello | Begin | Blocks | Slice | CommitMark
ToPrimary = HelloReply | Ack | Held | CutReport | Refusal


def common_prefix(ours: tuple[EpochEnd, ...], theirs: tuple[EpochEnd, ...]) -> int:
    """Return the last lsn up to which two logs must be the same, from their histories alone.

    One epoch has one writer and a writer only appends, so equal (epoch, lsn) means equal records before it; the hash
    chain at that lsn then proves it.
    """
    common = 0
    for mine, other in zip(ours, theirs, strict=False):
        if mine.epoch != other.epoch:
            break
        common = min(mine.last_lsn, other.last_lsn)
        if mine.last_lsn != other.last_lsn:
            break
    return common


def cut_history(history: tuple[EpochEnd, ...], lsn: int) -> tuple[EpochEnd, ...]:
    """Return the history of a log that was cut to `lsn`."""
    kept: list[EpochEnd] = []
    for epoch, last_lsn in history:
        if lsn <= (kept[-1].last_lsn if kept else 0):
            break
        kept.append(EpochEnd(epoch, min(last_lsn, lsn)))
    return tuple(kept)


def stranger(ours: Identity, peer: Identity) -> str | None:
    """Return why a node must not be our partner, naming both, or None."""
    if peer.cluster_id != ours.cluster_id:
        return f"node {peer.node} belongs to cluster {peer.cluster_id}, node {ours.node} to cluster {ours.cluster_id}"
    if peer.node == ours.node:
        return f"both nodes call themselves {ours.node}: incarnations {peer.incarnation} and {ours.incarnation}"
    return None
