"""Rules of recovery broken: what is PENDING is settled with the backup, and what is rolled back goes on record."""

from __future__ import annotations

from typing import Any
from unittest import mock

from ftwallet.ledger import ledger as ledger_module
from ftwallet.ledger.ledger import Ledger
from ftwallet.node.rollbacks import Rollbacks
from ftwallet.replication import effects as fx
from ftwallet.replication.primary import Primary
from ftwallet.replication.states import PrimaryState
from tests.replication import breaks as protocol
from tests.simulation import moments
from tests.simulation.breaks.breaking import Break, Patch, instead, method


def roll_forward_unacked() -> Patch:
    def replace(whole: Any) -> Any:
        def settle(self: Primary, session: Any, reply: Any, common: int) -> list[Any]:
            effects = whole(self, session, reply, common)
            return [fx.SettleTail(self.durable_lsn) if isinstance(one, fx.SettleTail) else one for one in effects]

        return settle

    return method(Primary, "_settle", replace)


def roll_back_alone_at_start() -> Patch:
    """A primary that is in sync alone cuts what is PENDING, where it may have been answered."""

    def replace(whole: Any) -> Any:
        def started(self: Primary) -> list[Any]:
            if self.state is not PrimaryState.SOLO or self.durable_lsn == self.commit_lsn:
                return whole(self)
            self.state = PrimaryState.SETTLING
            return [fx.RecordEpoch(self.epoch), fx.SettleTail(self.commit_lsn)]

        return started

    return method(Primary, "started", replace)


def rollback_bars_the_id() -> Patch:
    return mock.patch.object(ledger_module, "is_rolled_back", mock.Mock(return_value=False))


async def _no_report(self: Rollbacks, ledger: Ledger) -> bytes:
    return b""


async def _remember_nothing(self: Rollbacks, operations: Any) -> None:
    pass


RECOVERY = (
    Break(
        "naive-rollback",
        "a restarted primary rolls back all that is pending",
        protocol.naive_rollback,
        ("kill",),
        hint=2,
    ),
    Break(
        "rollback-alone",
        "a primary whose backup is not back rolls back",
        protocol.rollback_alone,
        moment=moments.primary_starts_again_and_its_backup_is_cut_off,
    ),
    Break(
        "rollback-solo",
        "a primary in sync alone rolls back at its start",
        roll_back_alone_at_start,
        ("kill", "both"),
        hint=7,
    ),
    Break(
        "forward-unacked",
        "what the backup does not have is rolled forward",
        roll_forward_unacked,
        moment=moments.rolled_back_transaction_is_asked_again_at_once,
    ),
    Break(
        "no-rollbacks",
        "a primary puts no ROLLED_BACK on record",
        instead(Rollbacks, "operations", lambda *_: []),
        moment=moments.primary_rolls_back_and_nobody_asks_again,
    ),
    Break(
        "no-report",
        "a backup does not report what it cut",
        instead(Rollbacks, "unreported", _no_report),
        moment=moments.old_primary_cuts_and_nobody_asks_again,
    ),
    Break(
        "cut-forgotten",
        "what is cut is not remembered",
        instead(Rollbacks, "remember", _remember_nothing),
        moment=moments.old_primary_dies_between_its_cut_and_the_report,
    ),
    Break(
        "barred",
        "an id that was rolled back is never executed",
        rollback_bars_the_id,
        moment=moments.rolled_back_transaction_is_asked_again,
    ),
)
