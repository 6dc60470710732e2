"""What the loop tells the history, in words. Pure."""

from __future__ import annotations

from ftwallet.replication.register import Proposal, ProposalKind, Register


def granted_sentence(proposal: Proposal, register: Register) -> str:
    """Return in words what the witness granted."""
    node, epoch = proposal.node, register.epoch
    match proposal.kind:
        case ProposalKind.START:
            return f"Epoch {epoch}: node {node} starts as primary; in sync: {_names(register)}"
        case ProposalKind.BOOT:
            return f"Start number {register.boots[node]} of node {node} is counted; the epoch stays {epoch}"
        case ProposalKind.SHRINK:
            return f"Epoch {epoch}: node {node} lost its backup and goes on alone; in sync: {_names(register)}"
        case ProposalKind.GROW:
            return f"Epoch {epoch}: node {proposal.peer} has caught up and joins; in sync: {_names(register)}"
        case ProposalKind.PROMOTE:
            return f"Epoch {epoch}: node {node} is promoted to primary; in sync: {_names(register)}"


def refused_sentence(proposal: Proposal, reason: str, primary: str) -> str:
    """Return in words what the witness refused; `primary` is who leads by now."""
    refused = f"The witness refused node {proposal.node}'s {proposal.kind}: {reason}"
    deposed = proposal.kind in (ProposalKind.SHRINK, ProposalKind.GROW) and proposal.node != primary
    return f"{refused}; node {primary} leads by now" if deposed else refused


def cut_short_sentence(names: list[str]) -> str:
    """Return who had to be killed, because it was still stopping when the order came to stop at once."""
    verb = "were" if len(names) > 1 else "was"
    return f"{' and '.join(names)} {verb} still stopping and had to be killed" if names else "both nodes had ended"


def mode_sentence(mode: str) -> str:
    """Return in words what a mode means for an answer."""
    if mode == "paired":
        return "Paired: every answer is durable on both nodes"
    return "Solo: answers are durable on the primary alone until its backup has caught up"


def _names(register: Register) -> str:
    return " and ".join(sorted(register.in_sync))
