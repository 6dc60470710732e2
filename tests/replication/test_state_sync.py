"""Both halves of the pair in a state sync, message by message; and each message as it goes over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from ftwallet.errors import PeerViolation
from ftwallet.replication import effects as fx
from ftwallet.replication.backup import Backup
from ftwallet.replication.messages import (
    Ack,
    Begin,
    Blocks,
    CheckpointFile,
    CutReport,
    EpochEnd,
    Held,
    Hello,
    HelloReply,
    Identity,
    Slice,
    ToBackup,
    ToPrimary,
)
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Proposal, Register
from ftwallet.replication.sending import Limits
from ftwallet.replication.states import BackupState
from ftwallet.rpc.mapping import from_backup, from_primary, to_backup, to_primary

A, B = Identity("c", "a", "a0"), Identity("c", "b", "b0")
LIMITS = Limits(slices=2, slice_bytes=10, state_sync_records=50)
FILE = CheckpointFile(90, b"chain", b"digest", (EpochEnd(1, 90),), 35, "f00d")


def solo(durable_lsn: int = 100, first_lsn: int = 1) -> Primary:
    core = Primary(
        A,
        Register("c", 2, "a", {"a": "a0"}, {}),
        durable_lsn=durable_lsn,
        commit_lsn=durable_lsn,
        history=(EpochEnd(1, durable_lsn),),
        now=0.0,
        first_lsn=first_lsn,
        limits=LIMITS,
    )
    core.started()
    core.session_opened(1, 0.0)
    return core


def meets(core: Primary, durable_lsn: int, partial: str = "") -> fx.Greet:
    history = (EpochEnd(1, durable_lsn),) if durable_lsn else ()
    (greet,) = core.received(HelloReply(1, B, durable_lsn, history, partial), 0.0)
    assert isinstance(greet, fx.Greet)
    return greet


def shrinking(durable_lsn: int = 100) -> tuple[Primary, Proposal]:
    """A primary that has lost its backup and waits for the witness, which names it in the in-sync set still."""
    core = Primary(
        A,
        Register("c", 2, "a", {"a": "a0", "b": "b0"}, {}),
        durable_lsn=durable_lsn,
        commit_lsn=0,
        history=(EpochEnd(1, durable_lsn),),
        now=0.0,
        limits=LIMITS,
    )
    core.started()
    asked = [effect.proposal for effect in core.tick(20.0) if isinstance(effect, fx.Propose)]
    core.session_opened(1, 20.0)
    return core, asked[0]


def test_C7_no_checkpoint_is_offered_before_the_witness_has_recorded_that_the_backup_is_out() -> None:
    core, proposal = shrinking()
    assert core.received(HelloReply(1, B, 0, (), ""), 20.0) == []
    assert not any(isinstance(effect, fx.EndSession) for effect in core.tick(60.0))  # it waits for us, not we for it
    register = Register("c", 3, "a", {"a": "a0"}, {})
    effects = core.witness_answered(proposal, Decision(True, "", register), 60.0)
    assert fx.Greet(1, 0, fx.Wanted(51, "", required=False)) in effects
    assert core.greeted(1, 0, b"", 60.0, FILE) == [fx.Send(Begin(1, 3, 0, b"", False, 100, FILE))]


def test_a_backup_that_needs_no_checkpoint_catches_up_while_the_witness_is_asked() -> None:
    core, _ = shrinking()
    assert core.received(HelloReply(1, B, 60, (EpochEnd(1, 60),), ""), 20.0) == [fx.Greet(1, 60)]


@pytest.mark.parametrize(
    ("durable_lsn", "wanted"),
    [(100, None), (50, None), (49, fx.Wanted(100, "", False)), (0, fx.Wanted(51, "", False))],
)
def test_a_checkpoint_is_looked_for_when_it_could_save_enough(durable_lsn: int, wanted: fx.Wanted | None) -> None:
    assert meets(solo(), durable_lsn).checkpoint == wanted


def test_it_is_required_of_a_log_that_begins_too_late_whatever_the_threshold() -> None:
    assert meets(solo(durable_lsn=30, first_lsn=21), 20).checkpoint is None
    core = solo(durable_lsn=30, first_lsn=21)
    assert meets(core, 19).checkpoint == fx.Wanted(20, "", required=True)
    ended, *_ = core.greeted(1, 19, b"", 0.0)
    assert isinstance(ended, fx.EndSession)
    assert core.session is None


def test_the_part_that_the_backup_has_is_asked_for() -> None:
    assert meets(solo(), 0, "f00d").checkpoint == fx.Wanted(51, "f00d", required=False)


def begun(core: Primary) -> None:
    meets(core, 0)
    assert core.greeted(1, 0, b"", 0.0, FILE) == [fx.Send(Begin(1, 2, 0, b"", False, 100, FILE))]


def test_slices_go_in_a_window_and_blocks_follow_the_ack_of_the_checkpoint() -> None:
    core = solo()
    begun(core)
    assert core.received(Held(1, 5), 1.0) == [fx.ReadSlice(1, FILE, 5, 10)]
    sent = core.slice_read(1, b"x" * 10, 1.0)
    assert sent == [fx.Send(Slice(1, 2, 5, b"x" * 10, 100)), fx.ReadSlice(1, FILE, 15, 10)]
    assert core.slice_read(1, b"y" * 10, 1.0) == [fx.Send(Slice(1, 2, 15, b"y" * 10, 100))]  # the window is full
    assert core.received(Held(1, 15), 1.1) == [fx.ReadSlice(1, FILE, 25, 10)]
    assert core.slice_read(1, b"z" * 10, 1.1) == [fx.Send(Slice(1, 2, 25, b"z" * 10, 100))]
    core.received(Held(1, 35), 1.2)
    assert core.received(Ack(1, 90), 1.3) == [fx.ReadBlocks(1, 91)]
    assert core.backup_lsn == 90


def test_an_ack_before_the_checkpoint_is_whole_is_a_violation() -> None:
    core = solo()
    begun(core)
    core.received(Held(1, 0), 1.0)
    with pytest.raises(PeerViolation):
        core.received(Ack(1, 90), 1.0)
    with pytest.raises(PeerViolation):
        core.received(Held(1, 11), 1.0)


def test_a_backup_that_is_silent_in_the_middle_or_while_it_installs_is_given_up() -> None:
    for held, late in ((0, 5.1), (FILE.size, 5.2)):
        core = solo()
        begun(core)
        core.received(Held(1, held), 0.0)
        core.slice_read(1, b"x" * 10, 0.0)
        assert not core.tick(5.0)
        assert any(isinstance(effect, fx.EndSession) for effect in core.tick(late))


def test_a_file_that_cannot_be_read_any_more_ends_the_session() -> None:
    core = solo()
    begun(core)
    core.received(Held(1, 0), 0.0)
    assert isinstance(core.slice_read(1, b"", 0.0)[0], fx.EndSession)
    assert core.slice_read(1, b"late", 0.0) == []


# ---- The backup


def backup(state_sync: bool) -> Backup:
    core = Backup(B, epoch=1, durable_lsn=3, commit_lsn=0, history=(EpochEnd(1, 3),), state_sync=state_sync)
    core.received(Hello(1, 2, A))
    assert core.received(Begin(1, 2, 2, b"chain", False, 100, FILE))[-1] == fx.Align(1, 2, b"chain")
    return core


def test_a_checkpoint_of_a_newer_format_is_refused_before_anything_is_fetched_or_given_up_for_it() -> None:
    core = Backup(B, epoch=1, durable_lsn=3, commit_lsn=0, history=(EpochEnd(1, 3),), reads_format=2)
    core.received(Hello(1, 2, A))
    effects = core.received(Begin(1, 2, 2, b"chain", False, 100, FILE._replace(format_version=3)))
    assert kinds(effects) == [fx.Became, fx.Send, fx.EndSession]
    assert "format version 3, and node b reads up to 2: upgrade node b" in core.reason
    assert core.state is BackupState.WAITING
    core.received(Hello(2, 2, A))
    newest = FILE._replace(format_version=2)
    assert core.received(Begin(2, 2, 2, b"chain", False, 100, newest))[-1] == fx.Align(2, 2, b"chain")


def kinds(effects: list[Any]) -> list[type]:
    return [type(effect) for effect in effects]


def test_C7_it_takes_a_new_incarnation_first_and_ends_the_session() -> None:
    core = backup(state_sync=False)
    assert kinds(core.aligned(1, 2, b"cut")) == [fx.Became, fx.RenewIncarnation, fx.EndSession]
    core.renewed("b1")
    reply = core.received(Hello(2, 2, A))[-1]
    assert reply == fx.Send(HelloReply(2, Identity("c", "b", "b1"), 2, (EpochEnd(1, 2),)))


def test_it_tells_what_it_has_takes_the_rest_and_installs_it_before_its_ack() -> None:
    core = backup(state_sync=True)
    assert core.aligned(1, 2, b"cut")[1:] == [fx.Send(CutReport(1, b"cut")), fx.FindPart(1, FILE)]
    assert core.part_found(1, 20) == [fx.Send(Held(1, 20))]
    assert core.received(Slice(1, 2, 10, b"x" * 10, 100)) == [fx.Send(Held(1, 20))]  # repeated
    for wrong in (Slice(1, 2, 30, b"x" * 5), Slice(1, 2, 20, b"x" * 16)):
        with pytest.raises(PeerViolation):
            core.received(wrong)
    assert core.received(Slice(1, 2, 20, b"x" * 15, 140)) == [fx.KeepSlice(1, 20, b"x" * 15)]
    assert core.slice_kept(1, 35) == [fx.Send(Held(1, 35)), fx.TakeFingerprint(1)]
    assert core.fingerprint_taken(1, "f00d")[1:] == [fx.Install(1, FILE)]
    effects = core.installed(1)
    assert kinds(effects) == [fx.EndStateSync, fx.Became, fx.Send]
    assert effects[-1] == fx.Send(Ack(1, 90))
    assert (core.durable_lsn, core.commit_lsn, core.history) == (90, 90, FILE.history)
    assert core.behind == 50
    assert core.reason == "following from lsn 90, 50 records behind"


def test_another_fingerprint_is_refused_and_the_part_dropped() -> None:
    core = backup(state_sync=True)
    core.aligned(1, 2)
    core.part_found(1, 35)
    assert kinds(core.fingerprint_taken(1, "bad")) == [fx.DropPart, fx.Became, fx.Send, fx.EndSession]
    assert core.state is BackupState.WAITING
    assert core.partial == ""
    assert core.durable_lsn == 2


def test_blocks_and_slices_come_only_where_they_belong() -> None:
    receiving = backup(state_sync=True)
    receiving.aligned(1, 2)
    receiving.part_found(1, 0)
    with pytest.raises(PeerViolation):
        receiving.received(Blocks(1, 2, ()))
    following = backup(state_sync=True)
    following.offer = None
    assert kinds(following.aligned(1, 2)) == [fx.EndStateSync, fx.Became, fx.Send]
    with pytest.raises(PeerViolation):
        following.received(Slice(1, 2, 0, b"x"))


def test_a_log_without_proof_needs_a_checkpoint() -> None:
    core = Backup(B, epoch=1, durable_lsn=3, commit_lsn=0, history=(EpochEnd(1, 3),))
    core.received(Hello(1, 2, A))
    with pytest.raises(PeerViolation, match="no proof"):
        core.received(Begin(1, 2, 2, b"", False, 100))


def test_the_reason_says_how_much_has_come() -> None:
    core = backup(state_sync=True)
    core.offer = FILE._replace(size=210_000_000)
    core.aligned(1, 2)
    core.part_found(1, 34_500_000)
    assert core.reason == "state sync of the checkpoint at lsn 90: 34 of 210 MB"


# ---- The wire


@pytest.mark.parametrize(
    "message",
    [
        Begin(7, 3, 5, b"chain", True, 100),
        Begin(7, 3, 5, b"", False, 100, FILE),
        Begin(7, 3, 5, b"", False, 100, FILE._replace(format_version=2)),
        Begin(7, 3, 0, b"c", False, 9, FILE._replace(history=(EpochEnd(1, 4), EpochEnd(3, 90)))),
        Slice(7, 3, 10, b"bytes", 100),
        Blocks(7, 3, (), 12),
    ],
)
def test_messages_of_the_primary_come_back(message: ToBackup) -> None:
    assert from_primary(to_backup(message)) == message


@pytest.mark.parametrize("message", [Held(7, 0), Held(7, 1 << 40), HelloReply(7, B, 3, (EpochEnd(1, 3),), "f00d")])
def test_messages_of_the_backup_come_back(message: ToPrimary) -> None:
    assert from_backup(to_primary(message)) == message
