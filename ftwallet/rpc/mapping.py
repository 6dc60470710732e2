"""Between the values of the replication protocol and their form on the wire. Nothing else knows both."""

from __future__ import annotations

from collections.abc import Iterable

from ftwallet.errors import PeerViolation
from ftwallet.journal import Block, decode_block
from ftwallet.replication.messages import (
    Ack,
    Begin,
    Blocks,
    CheckpointFile,
    CommitMark,
    CutReport,
    EpochEnd,
    Held,
    Hello,
    HelloReply,
    Identity,
    Refusal,
    Slice,
    ToBackup,
    ToPrimary,
)
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.v1 import control_pb2, wallet_pb2


def to_backup(message: ToBackup) -> wallet_pb2.ToBackup:
    """Encode a message of the primary; a block's bytes are those of its journal frame."""
    wire = wallet_pb2.ToBackup(session=message.session, epoch=message.epoch)
    if isinstance(message, Blocks):
        wire.blocks.block.extend([block.raw for block in message.blocks if isinstance(block, Block)])
        wire.blocks.end_lsn = message.end_lsn
    elif isinstance(message, CommitMark):
        wire.commit.commit_lsn, wire.commit.in_sync = message.commit_lsn, message.in_sync
    elif isinstance(message, Begin):
        wire.begin.CopyFrom(_begin_to_wire(message))
    elif isinstance(message, Slice):
        wire.slice.CopyFrom(wallet_pb2.Slice(offset=message.offset, data=message.data, end_lsn=message.end_lsn))
    else:
        wire.hello.CopyFrom(wallet_pb2.Hello(**{"from": _identity_to_wire(message.sender)}))
    return wire


def from_primary(wire: wallet_pb2.ToBackup) -> ToBackup:
    """Decode a message of the primary. Raises PeerViolation on a bad block or an unknown message."""
    session, epoch, body = wire.session, wire.epoch, wire.WhichOneof("body")
    if body == "blocks":
        blocks = tuple(decode_block(raw) for raw in wire.blocks.block)
        return Blocks(session, epoch, blocks, wire.blocks.end_lsn)
    if body == "commit":
        return CommitMark(session, epoch, wire.commit.commit_lsn, wire.commit.in_sync)
    if body == "begin":
        return _begin_from_wire(session, epoch, wire.begin)
    if body == "slice":
        return Slice(session, epoch, wire.slice.offset, wire.slice.data, wire.slice.end_lsn)
    if body == "hello":
        return Hello(session, epoch, _identity_from_wire(getattr(wire.hello, "from")))
    raise PeerViolation("the primary sent a message of a kind that this version does not know")


def to_primary(message: ToPrimary) -> wallet_pb2.ToPrimary:
    """Encode a message of the backup."""
    wire = wallet_pb2.ToPrimary(session=message.session)
    if isinstance(message, Ack):
        wire.ack.durable_lsn = message.durable_lsn
    elif isinstance(message, Held):
        wire.held.CopyFrom(wallet_pb2.Held(size=message.size))
    elif isinstance(message, CutReport):
        wire.cut.operations = message.operations
    elif isinstance(message, Refusal):
        wire.refusal.CopyFrom(wallet_pb2.Refusal(reason=message.reason))
    else:
        reply = wallet_pb2.HelloReply(
            **{"from": _identity_to_wire(message.sender)},
            durable_lsn=message.durable_lsn,
            history=_history_to_wire(message.history),
            partial=message.partial,
        )
        wire.hello.CopyFrom(reply)
    return wire


def from_backup(wire: wallet_pb2.ToPrimary) -> ToPrimary:
    """Decode a message of the backup. Raises PeerViolation on an unknown message."""
    session, body = wire.session, wire.WhichOneof("body")
    if body == "ack":
        return Ack(session, wire.ack.durable_lsn)
    if body == "held":
        return Held(session, wire.held.size)
    if body == "hello":
        sender, history = _identity_from_wire(getattr(wire.hello, "from")), _history_from_wire(wire.hello.history)
        return HelloReply(session, sender, wire.hello.durable_lsn, history, wire.hello.partial)
    if body == "cut":
        return CutReport(session, wire.cut.operations)
    if body == "refusal":
        return Refusal(session, wire.refusal.reason)
    raise PeerViolation("the backup sent a message of a kind that this version does not know")


def _begin_to_wire(begin: Begin) -> wallet_pb2.Begin:
    wire = wallet_pb2.Begin(
        common_lsn=begin.common_lsn, chain=begin.chain, in_sync=begin.in_sync, end_lsn=begin.end_lsn
    )
    if begin.checkpoint:
        lsn, chain, digest, history, size, fingerprint, format_version = begin.checkpoint
        wire.checkpoint.CopyFrom(
            wallet_pb2.CheckpointFile(
                lsn=lsn,
                chain=chain,
                digest=digest,
                history=_history_to_wire(history),
                size=size,
                fingerprint=fingerprint,
                format_version=format_version,
            )
        )
    return wire


def _begin_from_wire(session: int, epoch: int, wire: wallet_pb2.Begin) -> Begin:
    checkpoint = None
    if wire.HasField("checkpoint"):
        told = wire.checkpoint
        history = _history_from_wire(told.history)
        version = told.format_version or 1
        checkpoint = CheckpointFile(told.lsn, told.chain, told.digest, history, told.size, told.fingerprint, version)
    return Begin(session, epoch, wire.common_lsn, wire.chain, wire.in_sync, wire.end_lsn, checkpoint)


def _history_to_wire(history: tuple[EpochEnd, ...]) -> list[wallet_pb2.EpochEnd]:
    return [wallet_pb2.EpochEnd(epoch=end.epoch, last_lsn=end.last_lsn) for end in history]


def _history_from_wire(wire: Iterable[wallet_pb2.EpochEnd]) -> tuple[EpochEnd, ...]:
    return tuple(EpochEnd(end.epoch, end.last_lsn) for end in wire)


def _identity_to_wire(identity: Identity) -> wallet_pb2.Identity:
    return wallet_pb2.Identity(cluster_id=identity.cluster_id, node=identity.node, incarnation=identity.incarnation)


def _identity_from_wire(wire: wallet_pb2.Identity) -> Identity:
    return Identity(wire.cluster_id, wire.node, wire.incarnation)


# ---- The witness


def proposal_to_wire(proposal: Proposal) -> control_pb2.WitnessProposal:
    """Encode a proposal to the witness."""
    return control_pb2.WitnessProposal(
        kind=proposal.kind,
        node=proposal.node,
        incarnation=proposal.incarnation,
        expected_epoch=proposal.expected_epoch,
        peer=proposal.peer,
        peer_incarnation=proposal.peer_incarnation,
        boot=proposal.boot,
    )


def proposal_from_wire(wire: control_pb2.WitnessProposal) -> Proposal:
    """Decode a proposal. Raises PeerViolation on a kind that is not known."""
    try:
        kind = ProposalKind(wire.kind)
    except ValueError:
        raise PeerViolation(f"the witness knows no proposal {wire.kind!r}") from None
    return Proposal(kind, wire.node, wire.incarnation, wire.expected_epoch, wire.peer, wire.peer_incarnation, wire.boot)


def decision_to_wire(decision: Decision) -> control_pb2.WitnessReply:
    """Encode the witness's decision."""
    register = register_to_wire(decision.register)
    return control_pb2.WitnessReply(granted=decision.granted, reason=decision.reason, register=register)


def decision_from_wire(wire: control_pb2.WitnessReply) -> Decision:
    """Decode the witness's decision."""
    return Decision(wire.granted, wire.reason, register_from_wire(wire.register))


def register_to_wire(register: Register) -> control_pb2.Register:
    """Encode the witness's register."""
    return control_pb2.Register(
        cluster_id=register.cluster_id,
        epoch=register.epoch,
        primary=register.primary,
        in_sync=register.in_sync,
        boots=register.boots,
    )


def register_from_wire(wire: control_pb2.Register) -> Register:
    """Decode the witness's register."""
    return Register(wire.cluster_id, wire.epoch, wire.primary, dict(wire.in_sync), dict(wire.boots))
