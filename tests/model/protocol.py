"""The protocol of the pair as a state machine: two nodes, a witness, a supervisor, and whatever can happen to them.

A state is a tuple of tuples; `steps` yields every next state with a sentence, `broken` names the invariant that a state
breaks. `off` names the one rule that is left out (see `breaks.py`). What a model leaves out it cannot find: bytes,
time, and batches are not here. A commit is taken as answered at once, and a handshake is two steps, not four messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

A, B = 0, 1
NAMES = "AB"

DOWN, BOOTING, BACKUP, RECEIVING = "down", "booting", "backup", "receiving"
RECOVERING, PAIRED, SHRINKING, SOLO, JOINING = "recovering", "paired", "shrinking", "solo", "joining"
OFF = (DOWN, BOOTING)
LEADING = (RECOVERING, PAIRED, SHRINKING, SOLO, JOINING)
ANSWERING = (PAIRED, SOLO, JOINING)

Entry = tuple[int, int, int]  # (epoch that it was written in, operation, number of the writing: no two are the same)
SessionId = tuple[int, int]  # (epoch that the primary's process began in, number of its stream)
InSync = tuple[int, int]  # incarnation of A, of B; 0: not in the set


class Bounds(NamedTuple):
    """How much may happen in one history. `copies` turns boot numbers on, `reads` the reads and the killing before."""

    operations: int = 1
    appends: int = 2
    crashes: int = 1
    epochs: int = 4
    sessions: int = 2
    wire: int = 1
    wipes: int = 0
    damages: int = 0
    copies: int = 0
    syncs: int = 0
    resignations: int = 0
    reads: int = 0
    duplicates: int = 0


class Register(NamedTuple):
    """What the witness keeps durably."""

    epoch: int
    primary: int
    in_sync: InSync
    boots: tuple[int, int]


class Node(NamedTuple):
    """Down to `old` it is the directory, of whose log the first `synced` entries survive a crash."""

    incarnation: int
    epoch: int  # the newest seen
    boot: int
    log: tuple[Entry, ...]
    synced: int
    mark: bool = False  # this incarnation was made for a state sync and has not followed yet
    old: bool = False  # an old copy was put back (nobody in the protocol can see this)
    role: str = DOWN
    commit: int = 0  # of a primary: answered and visible up to here
    view: InSync = (0, 0)
    settled: bool = False  # its log is what it will stay: it executes, and answers reads
    born: int = 0  # epoch that this process began to lead in
    streams: int = 0  # that it has opened
    session: SessionId | None = None
    peer: int = 0  # incarnation at the other end of the session
    sent: int = 0  # before the alignment: the common prefix
    acked: int = -1  # -1: not aligned yet
    resigned: bool = False
    offer: tuple[Entry, ...] = ()  # the checkpoint that is being received


class Message(NamedTuple):
    """An entry on its way to the backup, or, without one, an ack of everything up to `lsn`."""

    to: int
    session: SessionId
    epoch: int
    lsn: int
    entry: Entry | tuple[()] = ()


class State(NamedTuple):
    """The last line are counters for the bounds."""

    register: Register
    nodes: tuple[Node, Node]
    wire: frozenset[Message] = frozenset()
    grow: tuple[int, int, int] | None = None  # (node, expected epoch, peer's incarnation) on its way to the witness
    yielded: int = 0  # the epoch in which the primary told the supervisor that it has resigned
    copy: tuple[int, Node] | None = None
    acked: frozenset[tuple[int, Entry]] = frozenset()  # (lsn, entry) that a client was told is done
    rolled_back: frozenset[Entry] = frozenset()
    operations: int = 0
    appends: int = 0
    crashes: int = 0
    sessions: int = 0
    wipes: int = 0
    damages: int = 0
    syncs: int = 0
    resignations: int = 0
    incarnations: int = 2


Steps = Iterator[tuple[str, State]]


def start() -> State:
    """A leads, B follows, nothing has happened yet."""
    both = (1, 2)
    a = Node(1, 1, 1, (), 0, role=PAIRED, view=both, settled=True, born=1, streams=1, session=(1, 1), peer=2, acked=0)
    b = Node(2, 1, 1, (), 0, role=BACKUP, session=(1, 1))
    return State(Register(1, A, both, (1, 1)), (a, b), sessions=1)


def steps(s: State, bound: Bounds, off: str) -> Steps:
    """Every state that can come next."""
    for i in (A, B):
        yield from _environment(s, i, bound)
        yield from _promotion(s, i, bound, off)
        role = s.nodes[i].role
        if role in OFF:
            yield from _directory(s, i, bound, off)
            yield from _starting(s, i, bound, off)
        elif role in LEADING:
            yield from _writing(s, i, bound, off)
            yield from _session(s, i, bound, off)
            yield from _alignment(s, i, bound, off)
            yield from _in_sync_set(s, i, bound, off)
            yield from _switchover(s, i, bound, off)
        else:
            yield from _following(s, i)
    yield from _joining(s, bound, off)
    yield from _network(s, bound, off)


# ---- Small words


def _with(s: State, i: int, node: Node, **changes: object) -> State:
    nodes = (node, s.nodes[B]) if i == A else (s.nodes[A], node)
    return s._replace(nodes=nodes, **changes)  # type: ignore[arg-type]


def _alone(i: int, incarnation: int) -> InSync:
    return (incarnation, 0) if i == A else (0, incarnation)


def _set(pair: tuple[int, int], i: int, value: int) -> tuple[int, int]:
    return (value, pair[B]) if i == A else (pair[A], value)


def _counts(in_sync: InSync, i: int, incarnation: int, off: str) -> bool:
    if off == "names-only":
        return in_sync[i] != 0
    return in_sync[i] == incarnation


def _stopped(n: Node) -> Node:
    return Node(n.incarnation, n.epoch, n.boot, n.log[: n.synced], n.synced, n.mark, n.old)


def _common(one: tuple[Entry, ...], other: tuple[Entry, ...]) -> int:
    lsn = 0
    while lsn < min(len(one), len(other)) and one[lsn] == other[lsn]:
        lsn += 1
    return lsn


def _cut(n: Node, lsn: int) -> Node:
    return n._replace(log=n.log[:lsn], synced=min(n.synced, lsn))


def _answered(s: State, n: Node) -> frozenset[tuple[int, Entry]]:
    """All that this primary has committed: whoever asks for it is told that it is done."""
    return s.acked | set(enumerate(n.log[: n.commit], 1))


# ---- Crashes, directories, starts


def _environment(s: State, i: int, bound: Bounds) -> Steps:
    n = s.nodes[i]
    if n.role != DOWN and s.crashes < bound.crashes:
        yield f"{NAMES[i]} crashes", _with(s, i, _stopped(n), crashes=s.crashes + 1)
    if bound.copies and s.copy is None:
        yield f"somebody copies {NAMES[i]}'s directory", s._replace(copy=(i, _stopped(n)))


def _directory(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, w = s.nodes[i], s.register
    if s.wipes < bound.wipes:
        new = s.incarnations + 1
        emptied = _with(s, i, Node(new, 0, 0, (), 0), wipes=s.wipes + 1, incarnations=new)
        yield f"{NAMES[i]}'s directory is emptied", emptied
    if s.damages < bound.damages and w.primary != i:
        new = s.incarnations + 1
        aside = _cut(n, 0) if off == "keep-incarnation" else _cut(n, 0)._replace(incarnation=new, mark=True)
        t = _with(s, i, aside, damages=s.damages + 1, incarnations=new)
        yield f"{NAMES[i]}'s log is damaged; it takes a new incarnation and sets the log aside", t
    if s.copy and s.copy[0] == i and not n.old:
        copied = s.copy[1]
        # A copy of the latest start that the witness counted cannot be told from the directory itself.
        in_sync = w.in_sync[i] == copied.incarnation
        if copied.boot < w.boots[i] or (in_sync and copied.mark):
            yield f"the old copy of {NAMES[i]}'s directory is put back", _with(s, i, copied._replace(old=True))


def _is_old_copy(n: Node, i: int, w: Register, off: str) -> bool:
    """Also outside of the set: acks of this incarnation's earlier start may be about to let it in."""
    in_sync = w.in_sync[i] == n.incarnation
    earlier = 0 < n.boot < w.boots[i] and (in_sync or off != "copy-outside") and off != "copy-believed"
    return earlier or (in_sync and n.mark and off != "mark-ignored")


def _boot_number(s: State, i: int, off: str) -> Steps:
    """Before the witness counts a start: who am I still, and which start is this?"""
    n, w, name = s.nodes[i], s.register, NAMES[i]
    numbered = n._replace(role=BOOTING, boot=w.boots[i] + 1)
    if n.role == DOWN and _is_old_copy(n, i, w, off):
        if w.primary != i:
            new = s.incarnations + 1
            renewed = numbered._replace(incarnation=new, mark=False)
            yield f"{name} is an old copy and takes a new incarnation", _with(s, i, renewed, incarnations=new)
    elif n.boot != w.boots[i] + 1 or n.role == DOWN:
        yield f"{name} makes its next boot number durable", _with(s, i, numbered)


def _starting(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, w, name = s.nodes[i], s.register, NAMES[i]
    if bound.copies and off != "count-first":
        yield from _boot_number(s, i, off)
        named = n.boot == w.boots[i] + 1 or off == "count-blindly"
        if n.role == DOWN or not named:
            return
    leads = w.primary == i
    counted = _set(w.boots, i, w.boots[i] + 1) if bound.copies else w.boots
    boot_now = n._replace(boot=counted[i]) if off == "count-first" else n
    if not leads:
        if bound.copies and w.boots[i] < bound.epochs:
            yield f"{name}'s start is counted, the answer lost", s._replace(register=w._replace(boots=counted))
        backup = _stopped(boot_now)._replace(role=BACKUP)
        yield f"{name} starts as backup", _with(s, i, backup, register=w._replace(boots=counted))
    elif w.epoch < bound.epochs and _counts(w.in_sync, i, n.incarnation, off):
        yield from _starting_to_lead(s, i, boot_now, counted, off)


def _starting_to_lead(s: State, i: int, n: Node, counted: tuple[int, int], off: str) -> Steps:
    epoch = s.register.epoch + (off != "same-epoch")
    register = s.register._replace(epoch=epoch, boots=counted)
    t = s._replace(register=register)
    if off != "same-epoch":
        yield f"{NAMES[i]}'s start is granted, the answer lost", t
    if off == "roll-back-pending":
        t = t._replace(rolled_back=t.rolled_back | set(n.log))
        n = _cut(n, 0)
    yield f"{NAMES[i]} starts as primary in epoch {epoch}", _leading(t, i, n)


def _leading(s: State, i: int, n: Node) -> State:
    """Alone in the set it rolls its tail forward; else it has to ask its backup."""
    w = s.register
    node = _stopped(n)._replace(epoch=w.epoch, view=w.in_sync, born=w.epoch, role=RECOVERING)
    if w.in_sync != _alone(i, n.incarnation):
        return _with(s, i, node)
    node = node._replace(role=SOLO, settled=True, commit=node.synced)
    return _with(s, i, node, acked=_answered(s, node))


def _promotion(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, w, old = s.nodes[i], s.register, s.nodes[1 - i]
    if n.role != BACKUP:
        return
    if w.primary == i:
        if w.epoch > n.epoch and _counts(w.in_sync, i, n.incarnation, off):
            yield f"{NAMES[i]} learns that it is promoted", _leading(s, i, n)
        return
    # With reads the supervisor promotes nobody while the old primary lives: killed, or resigned in this very epoch.
    gone = not bound.reads or old.role in OFF or s.yielded == w.epoch or off == "promote-living"
    in_sync = _counts(w.in_sync, i, n.incarnation, off) or off == "promote-any"
    if gone and in_sync and w.epoch < bound.epochs:
        register = w._replace(epoch=w.epoch + 1, primary=i, in_sync=_alone(i, n.incarnation))
        yield f"the witness records that {NAMES[i]} is promoted", s._replace(register=register, yielded=0)


# ---- A primary


def _writing(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, name = s.nodes[i], NAMES[i]
    if n.role in ANSWERING and not n.resigned and s.appends < bound.appends:
        known = {entry[1] for entry in n.log}
        for operation in range(min(s.operations + 1, bound.operations)):
            if operation in known and off != "retry-blind":
                continue
            longer = n._replace(log=(*n.log, (n.epoch, operation, s.appends)))
            count = max(s.operations, operation + 1)
            yield f"{name} appends {operation}", _with(s, i, longer, operations=count, appends=s.appends + 1)
    if n.synced < len(n.log):
        yield f"{name} syncs its log", _with(s, i, n._replace(synced=len(n.log)))
    ready = len(n.log) if off == "send-unsynced" else n.synced
    if n.acked >= 0 and n.session and n.sent < ready and len(s.wire) < bound.wire:
        entry = n.log[n.sent]
        message = Message(1 - i, n.session, n.epoch, n.sent + 1, entry)
        yield f"{name} sends {entry[1]}", _with(s, i, n._replace(sent=n.sent + 1), wire=s.wire | {message})
    if n.commit < _may_commit(n, off):
        done = n._replace(commit=n.commit + 1)
        yield f"{name} answers {n.log[n.commit][1]}", _with(s, i, done, acked=_answered(s, done))


def _may_commit(n: Node, off: str) -> int:
    if n.resigned or n.role == RECOVERING:
        return n.commit
    synced = len(n.log) if off == "send-unsynced" else n.synced
    alone = n.role == SOLO or (n.role == SHRINKING and off == "ack-alone")
    if alone or (n.role == JOINING and off == "join-acks-alone"):
        return synced
    return min(synced, n.acked) if n.role in (PAIRED, JOINING) else n.commit


def _session(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, name = s.nodes[i], NAMES[i]
    if n.session:
        yield f"{name} loses its session", _with(s, i, _without_session(n))
        return
    m = s.nodes[1 - i]
    heard = n.epoch >= m.epoch or off == "no-fence"
    if m.role not in (BACKUP, RECEIVING) or not heard or s.sessions >= bound.sessions:
        return
    session = (n.born, n.streams + 1)
    greeted = m._replace(role=BACKUP, epoch=max(m.epoch, n.epoch), session=session, offer=())
    if off == "settle-unfenced" and n.role == RECOVERING:
        greeted = m
    common = _common(n.log[: n.synced], m.log)
    n = n._replace(streams=n.streams + 1, session=session, peer=m.incarnation, sent=common, acked=-1)
    if n.role == RECOVERING and not _counts(n.view, 1 - i, m.incarnation, off):
        n = n._replace(role=SHRINKING)
    t = _with(_with(s, 1 - i, greeted), i, n, sessions=s.sessions + 1)
    if n.role == RECOVERING and len(m.log) > common:
        yield f"{name} has lost what {NAMES[1 - i]} holds, and stops", _with(t, i, _stopped(n))
        return
    yield f"{name} says hello to {NAMES[1 - i]}, which keeps epoch {greeted.epoch} and tells its log", t


def _without_session(n: Node) -> Node:
    role = SHRINKING if n.role in (PAIRED, JOINING) else n.role
    return n._replace(role=role, session=None, peer=0, sent=0, acked=-1)


def _alignment(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, m, name = s.nodes[i], s.nodes[1 - i], NAMES[i]
    if n.role == RECOVERING:
        yield from _settling(s, i, off)
        return
    in_session = m.session == n.session or off == "settle-unfenced"
    if not n.session or n.acked >= 0 or m.role != BACKUP or not in_session:
        return
    beyond = set(m.log[n.sent :]) - set(n.log)
    kept = m._replace(session=n.session, epoch=max(m.epoch, n.epoch))
    if off != "keep-tail":
        kept = _cut(kept, n.sent)
        s = s._replace(rolled_back=s.rolled_back | beyond)
    aligned = _with(_with(s, 1 - i, kept), i, n._replace(acked=n.sent))
    yield f"{NAMES[1 - i]} cuts what {name} does not have, and follows", aligned
    if n.commit <= n.sent or n.role == SHRINKING:  # the record may still name the incarnation that it would give up
        return
    if kept.mark or off == "keep-incarnation":
        receiving = kept._replace(role=RECEIVING, offer=n.log[: n.commit])
        yield f"{NAMES[1 - i]} begins to receive {name}'s checkpoint", _with(s, 1 - i, receiving)
    elif s.syncs < bound.syncs:
        new = s.incarnations + 1
        renewed = kept._replace(incarnation=new, mark=True, session=None)
        t = _with(_with(s, 1 - i, renewed), i, _without_session(n), syncs=s.syncs + 1, incarnations=new)
        yield f"{name} offers a checkpoint, {NAMES[1 - i]} takes a new incarnation for it", t


def _settling(s: State, i: int, off: str) -> Steps:
    n, name = s.nodes[i], NAMES[i]
    if n.session:
        tail = n.log[n.sent :]
        settled = _cut(n, n.sent)._replace(role=PAIRED, settled=True, commit=n.sent)
        t = _with(s, i, settled, rolled_back=s.rolled_back | set(tail), acked=_answered(s, settled))
        yield f"{name} settles its tail: what {NAMES[1 - i]} has stands, the rest is rolled back", t
    given_up = n._replace(role=SHRINKING)
    if off == "roll-back-alone":
        s = s._replace(rolled_back=s.rolled_back | set(n.log))
        given_up = _cut(given_up, 0)
    yield f"{name} waits for its backup no longer", _with(s, i, given_up)


# ---- The witness


def _learned(s: State, i: int) -> State:
    """The primary learns the register."""
    n, w = s.nodes[i], s.register
    n = n._replace(epoch=w.epoch, view=w.in_sync)
    if n.role == SHRINKING and w.in_sync == _alone(i, n.incarnation):
        n = n._replace(role=SOLO, settled=True, commit=n.synced)
        return _with(s, i, n, acked=s.acked if n.resigned else _answered(s, n))
    if n.role == JOINING and n.session and w.in_sync[1 - i] == n.peer:
        n = n._replace(role=PAIRED)
    return _with(s, i, n)


def _in_sync_set(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, w, name = s.nodes[i], s.register, NAMES[i]
    if w.epoch > n.epoch and w.primary != i:
        yield f"{name} learns that it is deposed, and stops", _with(s, i, _stopped(n))
    if w.epoch > n.epoch and w.primary == i and n.role in (SHRINKING, JOINING):
        yield f"{name} asks again and learns epoch {w.epoch}", _learned(s, i)
    same = w.epoch == n.epoch or off == "no-compare"
    if n.role == SHRINKING and w.primary == i and same and w.epoch < bound.epochs:
        alone = w._replace(epoch=w.epoch + 1, in_sync=_alone(i, n.incarnation))
        t = s._replace(register=alone)
        yield f"the witness records that {name} is alone, the answer lost", t
        yield f"the witness records that {name} is alone", _learned(t, i)
    may_join = n.acked >= n.commit or (off == "join-early" and n.acked >= 0)
    if n.role == SOLO and n.session and may_join:
        asking = n._replace(role=JOINING)
        yield f"{name} asks the witness to add {NAMES[1 - i]}", _with(s, i, asking, grow=(i, n.epoch, n.peer))
    elif n.role == JOINING and s.grow is None:
        yield f"{name} asks again to add {NAMES[1 - i]}", s._replace(grow=(i, n.epoch, n.peer))


def _joining(s: State, bound: Bounds, off: str) -> Steps:
    """The question to let the backup in arrives, however late, also when its asker is somewhere else by now."""
    if s.grow is None:
        return
    i, epoch, peer = s.grow
    n, w = s.nodes[i], s.register
    yield "the question to the witness is lost", s._replace(grow=None)
    same = w.epoch == epoch or off == "no-compare"
    if w.primary != i or not same or w.epoch >= bound.epochs:
        return
    if off == "join-whoever":
        peer = s.nodes[1 - i].incarnation
    register = w._replace(epoch=w.epoch + 1, in_sync=_set(w.in_sync, 1 - i, peer))
    t = s._replace(register=register, grow=None)
    yield f"the witness records that {NAMES[1 - i]} joins, the answer lost", t
    if n.role in (SHRINKING, JOINING) and n.epoch == epoch:
        yield f"the witness records that {NAMES[1 - i]} joins", _learned(t, i)


def _switchover(s: State, i: int, bound: Bounds, off: str) -> Steps:
    n, name = s.nodes[i], NAMES[i]
    drained = n.role == PAIRED and n.acked == n.commit == len(n.log)
    if drained and not n.resigned and s.resignations < bound.resignations:
        t = _with(s, i, n._replace(resigned=True), yielded=n.epoch, resignations=s.resignations + 1)
        yield f"{name} resigns and tells the supervisor", t
    if n.resigned and off == "resign-for-a-while":
        yield f"{name} goes on by itself", _with(s, i, n._replace(resigned=False))
    elif n.resigned and s.yielded:
        yield (
            f"the supervisor gives up the switchover; {name} goes on",
            _with(s, i, n._replace(resigned=False), yielded=0),
        )


# ---- A backup, and the network


def _following(s: State, i: int) -> Steps:
    m = s.nodes[i]
    if m.role != RECEIVING:
        return
    if m.log:
        yield f"{NAMES[i]} removes its log for the checkpoint", _with(s, i, _cut(m, 0))
        return
    lsn = len(m.offer)
    t = _with(s, i, m._replace(role=BACKUP, log=m.offer, synced=lsn, mark=False, offer=()))
    n = s.nodes[1 - i]
    if n.role in LEADING and n.session == m.session:
        t = _with(t, 1 - i, n._replace(sent=lsn, acked=lsn))
    yield f"{NAMES[i]} has installed the checkpoint and follows", t


def _network(s: State, bound: Bounds, off: str) -> Steps:
    for message in sorted(s.wire):  # in one order, so that the same history is found every time
        gone = s._replace(wire=s.wire - {message})
        yield "a message is lost", gone
        receiver = s.nodes[message.to]
        if not message.entry:
            ours = receiver.session == message.session or (off == "old-acks" and receiver.session is not None)
            if receiver.role in LEADING and receiver.acked >= 0 and ours and message.lsn > receiver.acked:
                acked = receiver._replace(acked=message.lsn)
                yield f"{NAMES[message.to]} gets the ack up to lsn {message.lsn}", _with(gone, message.to, acked)
        else:
            for t in _taken(gone, message, receiver, off):
                yield f"{NAMES[message.to]} takes {message.entry[1]} and acks", t
                if bound.duplicates:
                    yield (
                        f"{NAMES[message.to]} takes {message.entry[1]}, sent twice",
                        t._replace(wire=t.wire | {message}),
                    )


def _taken(s: State, message: Message, m: Node, off: str) -> Iterator[State]:
    """A backup takes an entry that is the next in its log, and acks once more what it has already."""
    current = message.epoch >= m.epoch and message.session == m.session
    if m.role != BACKUP or not message.entry or not (current or off == "no-fence" or _unfenced(m, message, off)):
        return
    if message.lsn > len(m.log) + 1 and off != "gaps":
        return
    m = m._replace(epoch=max(m.epoch, message.epoch))
    if message.lsn > len(m.log):
        m = m._replace(log=(*m.log, message.entry), synced=len(m.log) + 1)
    lsn = message.lsn if off == "gaps" else len(m.log)
    ack = Message(1 - message.to, message.session, 0, lsn)
    yield _with(s, message.to, m, wire=s.wire | {ack})


def _unfenced(m: Node, message: Message, off: str) -> bool:
    return off == "settle-unfenced" and message.epoch >= m.epoch and m.session == message.session


# ---- What must hold in every state


def broken(s: State, bound: Bounds, off: str) -> str:
    """Name the invariant that does not hold, with what is wrong; empty when all hold."""
    w = s.register
    for i in (A, B):
        n = s.nodes[i]
        # Whoever puts an old copy back takes that disk's log away; what counts is whether it starts with it.
        if w.in_sync[i] == n.incarnation and not (n.old and n.role in OFF):
            why = _log_broken(s, n, NAMES[i])
            if why:
                return why
            if n.role == DOWN and bound.copies and not n.old and n.boot < w.boots[i]:
                return f"recognised: {NAMES[i]}'s own directory is taken for an old copy"
        if bound.reads and _serves_reads(n, off):
            unseen = [entry for lsn, entry in s.acked if entry not in n.log[: n.commit]]
            if unseen:
                return f"read: {NAMES[i]} answers a read without {unseen[0][1]}, which was answered before"
    return _history_broken(s)


def _log_broken(s: State, n: Node, name: str) -> str:
    for lsn, entry in s.acked:
        if entry not in n.log[: n.synced]:
            return f"durable: {entry[1]} was answered, and {name}, in sync, does not hold it durably"
        if n.log[lsn - 1] != entry:
            return f"agree: {entry[1]} was answered at lsn {lsn}, and stands elsewhere in {name}'s log"
    operations = [entry[1] for entry in n.log]
    if len(set(operations)) < len(operations):
        return f"once: {name}'s log holds one operation twice"
    if s.rolled_back & set(n.log):
        return f"rolled: what was reported as rolled back stands in {name}'s log"
    return ""


def _serves_reads(n: Node, off: str) -> bool:
    return n.role in LEADING and not n.resigned and (n.settled or off == "read-unsettled")


def _history_broken(s: State) -> str:
    entries = {entry for _, entry in s.acked}
    if entries & s.rolled_back:
        return "rolled: what was answered was rolled back"
    if len({entry[1] for entry in entries}) < len(s.acked):
        return "once: one operation was answered as done at two places of the log"
    return ""
