"""Between the values of the replication protocol and their form on the wire. Nothing else knows both."""

from __future__ import annotations

from ftwallet.errors import PeerViolation
from ftwallet.journal import Block, decode_block
from ftwallet.replication.messages import (
    Ack,
    Begin,
    Blocks,
    CommitMark,
    CutReport,
    EpochEnd,
    Hello,
    HelloReply,
    Identity,
    Refusal,
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
    elif isinstance(message, CommitMark):
        wire.commit.commit_lsn, wire.commit.in_sync = message.commit_lsn, message.in_sync
    elif isinstance(message, Begin):
        wire.begin.CopyFrom(
            wallet_pb2.Begin(common_lsn=message.common_lsn, chain=message.chain, in_sync=message.in_sync)
        )
    else:
        wire.hello.CopyFrom(wallet_pb2.Hello(**{"from": _identity_to_wire(message.sender)}))
    return wire


def from_primary(wire: wallet_pb2.ToBackup) -> ToBackup:
    """Decode a message of the primary. Raises PeerViolation on a bad block or an unknown message."""
    session, epoch, body = wire.session, wire.epoch, wire.WhichOneof("body")
    if body == "blocks":
        return Blocks(session, epoch, tuple(decode_block(raw) for raw in wire.blocks.block))
    if body == "commit":
        return CommitMark(session, epoch, wire.commit.commit_lsn, wire.commit.in_sync)
    if body == "begin":
        return Begin(session, epoch, wire.begin.common_lsn, wire.begin.chain, wire.begin.in_sync)
    if body == "hello":
        return Hello(session, epoch, _identity_from_wire(getattr(wire.hello, "from")))
    raise PeerViolation("the primary sent a message of a kind that this version does not know")


def to_primary(message: ToPrimary) -> wallet_pb2.ToPrimary:
    """Encode a message of the backup."""
    wire = wallet_pb2.ToPrimary(session=message.session)
    if isinstance(message, Ack):
        wire.ack.durable_lsn = message.durable_lsn
    elif isinstance(message, CutReport):
        wire.cut.operations = message.operations
    elif isinstance(message, Refusal):
        wire.refusal.CopyFrom(wallet_pb2.Refusal(reason=message.reason, stale=message.stale, epoch=message.epoch))
    else:
        history = [wallet_pb2.EpochEnd(epoch=end.epoch, last_lsn=end.last_lsn) for end in message.history]
        reply = wallet_pb2.HelloReply(
            **{"from": _identity_to_wire(message.sender)}, durable_lsn=message.durable_lsn, history=history
        )
        wire.hello.CopyFrom(reply)
    return wire


def from_backup(wire: wallet_pb2.ToPrimary) -> ToPrimary:
    """Decode a message of the backup. Raises PeerViolation on an unknown message."""
    session, body = wire.session, wire.WhichOneof("body")
    if body == "ack":
        return Ack(session, wire.ack.durable_lsn)
    if body == "hello":
        history = tuple(EpochEnd(end.epoch, end.last_lsn) for end in wire.hello.history)
        return HelloReply(session, _identity_from_wire(getattr(wire.hello, "from")), wire.hello.durable_lsn, history)
    if body == "cut":
        return CutReport(session, wire.cut.operations)
    if body == "refusal":
        return Refusal(session, wire.refusal.reason, wire.refusal.stale, wire.refusal.epoch)
    raise PeerViolation("the backup sent a message of a kind that this version does not know")


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
    )


def proposal_from_wire(wire: control_pb2.WitnessProposal) -> Proposal:
    """Decode a proposal. Raises PeerViolation on a kind that is not known."""
    try:
        kind = ProposalKind(wire.kind)
    except ValueError:
        raise PeerViolation(f"the witness knows no proposal {wire.kind!r}") from None
    return Proposal(kind, wire.node, wire.incarnation, wire.expected_epoch, wire.peer, wire.peer_incarnation)


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
