"""The witness's register `(epoch, primary, in_sync)` and the rules by which it changes. Pure.

Two nodes cannot decide alone who lives. Whoever holds the register durably decides with one compare-and-set: a proposal
names the epoch that it was made at and is refused when the register has moved on. Every granted change raises the epoch
by one, so the epoch doubles as the fencing token.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class ProposalKind(StrEnum):
    """What a node, or the supervisor for it, may ask of the witness."""

    START = "start"  # a primary starts (again): same in-sync set, next epoch, its boot is counted
    BOOT = "boot"  # a backup starts: only its boot is counted, the epoch stays
    SHRINK = "shrink"  # the primary lost its backup: in_sync becomes itself alone
    GROW = "grow"  # the backup holds everything that was acknowledged alone: it joins
    PROMOTE = "promote"  # the primary is dead: an in-sync backup leads, alone


class Register(msgspec.Struct, frozen=True):
    """`in_sync` and `boots` map a node's name to its incarnation and to its number of starts."""

    cluster_id: str
    epoch: int
    primary: str
    in_sync: dict[str, str]
    boots: dict[str, int]


class Proposal(NamedTuple):
    """A compare-and-set: `expected_epoch` is what the proposer believes; BOOT alone does not compare it.

    `boot`: for START and BOOT, the number of this start, which the directory has durably. The witness takes it over and
    does not count by itself: a question that was asked twice would count one start twice, and the directory, which
    knows of one, would look like an old copy of itself.
    """

    kind: ProposalKind
    node: str
    incarnation: str
    expected_epoch: int
    peer: str = ""
    peer_incarnation: str = ""
    boot: int = 0


class Decision(NamedTuple):
    """`register` is how it stands after the proposal, granted or not."""

    granted: bool
    reason: str
    register: Register


def decide(register: Register, proposal: Proposal) -> Decision:
    """Return the decision on `proposal`; the caller makes `Decision.register` durable before it answers."""
    if proposal.kind is ProposalKind.BOOT:
        return _granted(register, proposal, register.epoch, register.in_sync)
    if proposal.expected_epoch != register.epoch:
        return Decision(
            False, f"the register stands at epoch {register.epoch}, not {proposal.expected_epoch}", register
        )
    if register.in_sync.get(proposal.node) != proposal.incarnation:
        who = f"node {proposal.node} with incarnation {proposal.incarnation}"
        return Decision(False, f"{who} is not in the in-sync set {sorted(register.in_sync)}", register)
    if proposal.kind is not ProposalKind.PROMOTE and register.primary != proposal.node:
        return Decision(False, f"node {register.primary} is the primary, not {proposal.node}", register)
    return _granted(register, proposal, register.epoch + 1, _next_in_sync(register, proposal))


def _next_in_sync(register: Register, proposal: Proposal) -> dict[str, str]:
    if proposal.kind is ProposalKind.START:
        return register.in_sync
    alone = {proposal.node: proposal.incarnation}
    if proposal.kind is ProposalKind.GROW:
        return alone | {proposal.peer: proposal.peer_incarnation}
    return alone


def _granted(register: Register, proposal: Proposal, epoch: int, in_sync: dict[str, str]) -> Decision:
    boots = dict(register.boots)
    if proposal.kind in (ProposalKind.START, ProposalKind.BOOT):
        boots[proposal.node] = max(boots.get(proposal.node, 0), proposal.boot)
    primary = register.primary if proposal.kind is ProposalKind.BOOT else proposal.node
    return Decision(True, "", Register(register.cluster_id, epoch, primary, in_sync, boots))
