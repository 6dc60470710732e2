"""A backup that goes away, or has lost records, while the primary settles its tail by what that backup has told."""

from __future__ import annotations

from ftwallet.replication import effects as fx
from ftwallet.replication.effects import Effect
from ftwallet.replication.messages import Ack, Begin, CommitMark, EpochEnd, HelloReply, Identity
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Register
from ftwallet.replication.states import PrimaryState

_IN_SYNC = {"a": "a0", "b": "b0"}


def _settling() -> Primary:
    """A primary that cuts its log to lsn 3, because the backup of session 1 holds no more."""
    register = Register("c", 2, "a", _IN_SYNC, {})
    history = (EpochEnd(1, 5),)
    core = Primary(Identity("c", "a", "a0"), register, durable_lsn=5, commit_lsn=0, history=history, now=0.0)
    core.started()
    core.session_opened(1, 0.0)
    told = HelloReply(1, Identity("c", "b", "b0"), 3, (EpochEnd(1, 3),))
    assert fx.SettleTail(3) in core.received(told, 0.0)
    return core


def _greetings(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, fx.Greet)]


def test_another_directory_that_greets_meanwhile_does_not_count_as_the_one_in_sync() -> None:
    core = _settling()
    core.session_lost(1, "it died")
    core.session_opened(2, 0.1)
    effects = core.received(HelloReply(2, Identity("c", "b", "rebuilt"), 0, ()), 0.1)
    effects += core.tail_settled(3)
    assert len(_greetings(effects)) == 1, "greeted twice in one session"
    assert core.state is PrimaryState.SHRINKING
    core.greeted(2, 0, b"", 0.1)
    core.received(Ack(2, 0), 0.1)
    alone = Register("c", 3, "a", {"a": "a0"}, {})
    (ask,) = [effect.proposal for effect in effects if isinstance(effect, fx.Propose)]
    core.witness_answered(ask, Decision(True, "", alone), 0.1)
    assert core.mode == "solo"


def test_the_same_backup_that_stays_is_paired_and_greeted_once() -> None:
    core = _settling()
    effects = core.tail_settled(3)
    assert _greetings(effects) == [fx.Greet(1, 3)]
    assert core.state is PrimaryState.PAIRED


def test_a_backup_that_has_lost_records_is_not_told_that_it_is_in_sync() -> None:
    register = Register("c", 2, "a", _IN_SYNC, {})
    history = (EpochEnd(1, 5),)
    core = Primary(Identity("c", "a", "a0"), register, durable_lsn=5, commit_lsn=4, history=history, now=0.0)
    core.started()
    core.session_opened(1, 0.0)
    assert fx.Greet(1, 3) in core.received(HelloReply(1, Identity("c", "b", "b0"), 3, (EpochEnd(1, 3),)), 0.0)
    assert core.state is PrimaryState.SHRINKING
    assert core.greeted(1, 3, b"", 0.0) == [fx.Send(Begin(1, 2, 3, b"", False, 5))]
    core.received(Ack(1, 3), 0.0)
    assert core.idle_mark() == [fx.Send(CommitMark(1, 2, 4, False))]


def test_a_primary_is_followed_only_while_it_answers_alone_and_its_backup_catches_up() -> None:
    register = Register("c", 2, "a", {"a": "a0"}, {})
    core = Primary(Identity("c", "a", "a0"), register, durable_lsn=5, commit_lsn=5, history=(EpochEnd(1, 5),), now=0.0)
    core.started()
    core.session_opened(1, 0.0)
    core.received(HelloReply(1, Identity("c", "b", "b1"), 0, ()), 0.0)
    assert not core.followed
    core.greeted(1, 0, b"", 0.0)
    assert not core.followed
    core.received(Ack(1, 0), 0.0)
    assert core.followed
    core.session_lost(1, "it died")
    assert not core.followed
