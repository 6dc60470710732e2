"""`python -m ftwallet` with one rule broken on purpose: the one that the variable BREAK names. See breaks.py."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from msgspec import structs

from ftwallet import platform
from ftwallet.cli import main
from ftwallet.journal import checkpoints, frames, quarantine, segments
from ftwallet.ledger import ledger
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import accounts_of
from ftwallet.node import expiries, ports, process, receiving, seat, service, underway
from ftwallet.node.base import StoreBase
from ftwallet.node.disk import Disk
from ftwallet.node.expiries import Expiries
from ftwallet.node.rollbacks import Rollbacks
from ftwallet.replication import backup as replication_backup
from ftwallet.replication import primary as replication_primary
from ftwallet.replication.backup import Backup
from ftwallet.replication.effects import Commit
from ftwallet.replication.primary import Primary
from ftwallet.replication.states import PrimaryState
from tests.faults.harness import BREAK_VARIABLE

_SLOW_DISK_S = 0.3


def _replace(owner: Any, name: str, new: Any) -> None:
    """Put `new` in the place of something that is there."""
    getattr(owner, name)
    setattr(owner, name, new)


# ---- The protocol of the pair


def _answer_before_the_ack() -> None:
    def commit(self: Any) -> list[Any]:
        if not self.answering or self.durable_lsn <= self.commit_lsn:
            return []
        self.commit_lsn = self.durable_lsn
        return [Commit(self.commit_lsn)]

    _replace(Primary, "_commit", commit)


def _go_solo_without_the_witness() -> None:
    def shrink(self: Any, reason: str) -> list[Any]:
        alone = self._become(PrimaryState.SHRINKING, reason) + self._become(PrimaryState.SOLO, reason)
        return alone + self._commit()

    _replace(Primary, "_shrink", shrink)


def _roll_back_all_that_is_pending() -> None:
    settle = Primary._settle

    def settle_at_the_commit(self: Any, session: Any, reply: Any, common: int) -> list[Any]:
        return settle(self, session, reply._replace(durable_lsn=0), min(common, self.commit_lsn))

    _replace(Primary, "_settle", settle_at_the_commit)


def _cut_below_the_commit() -> None:
    settle = Primary._settle

    def settle_as_if_nothing_were_committed(self: Any, session: Any, reply: Any, common: int) -> list[Any]:
        committed, self.commit_lsn = self.commit_lsn, 0
        effects = settle(self, session, reply, common)
        self.commit_lsn = min(committed, common)
        return effects

    _replace(Primary, "_settle", settle_as_if_nothing_were_committed)


def _believe_any_incarnation() -> None:
    _replace(Primary, "_is_in_sync", lambda self, peer: peer.node in self.in_sync)


def _accept_old_epochs() -> None:
    checked = Backup.received

    def received(self: Any, message: Any) -> list[Any]:
        self.epoch = min(self.epoch, message.epoch)
        return checked(self, message)

    _replace(Backup, "received", received)


def _accept_other_clusters() -> None:
    for module in (replication_backup, replication_primary):
        _replace(module, "stranger", lambda ours, peer: None)


def _believe_old_copies() -> None:
    _replace(seat, "_old_copy", lambda node_dir, register: None)


def _keep_the_incarnation() -> None:
    aligned = Backup.aligned

    def aligned_as_if_renewed(self: Any, session: int, common_lsn: int, cut: bytes = b"") -> list[Any]:
        self.state_sync = self.state_sync or self.offer is not None
        return aligned(self, session, common_lsn, cut)

    _replace(Backup, "aligned", aligned_as_if_renewed)


def _offer_no_checkpoint() -> None:
    greet = Primary._greet
    _replace(
        Primary, "_greet", lambda self, session, common_lsn: greet(self, session, common_lsn)._replace(checkpoint=None)
    )


# ---- The disk


def _ack_before_the_sync() -> None:
    """The backup's disk is slow as well, so that the order shows."""
    appended = Disk._append_each

    def append_slowly(self: Any, blocks: Any) -> None:
        time.sleep(_SLOW_DISK_S)
        appended(self, blocks)

    async def append_all(self: Any, blocks: Any) -> None:
        self._writer.submit(append_slowly, self, blocks)

    _replace(Disk, "append_all", append_all)


def _send_before_the_sync() -> None:
    """The primary's disk is slow as well, so that the order shows."""

    def append_slowly(self: Any, block: Any) -> None:
        time.sleep(_SLOW_DISK_S)
        self.journal.append(block)

    async def append(self: Any, block: Any) -> None:
        self._writer.submit(append_slowly, self, block)

    _replace(Disk, "append", append)


def _skip_the_sync() -> None:
    _replace(platform, "fdatasync", lambda fd: None)


def _cut_without_quarantine() -> None:
    _replace(quarantine, "keep", lambda directory, lsn, why, tails: directory / "nothing-was-kept")


def _take_damage_for_a_torn_tail() -> None:
    judge = frames.judge

    def lenient(buffer: bytes, offset: int, base: int) -> Any:
        verdict = judge(buffer, offset, base)
        return frames.Torn(verdict.why) if isinstance(verdict, frames.Corrupt) else verdict

    _replace(segments, "judge", lenient)


def _checkpoints_without_checksums() -> None:
    _replace(checkpoints, "crc32", lambda data: 0)


def _trim_what_no_state_holds() -> None:
    _replace(StoreBase, "hold_twice", lambda self, lsn, journal: lsn)


def _forget_the_part() -> None:
    prepare = receiving._prepare

    def prepare_anew(directory: Any, part: Any) -> int:
        part.unlink(missing_ok=True)
        return prepare(directory, part)

    _replace(receiving, "_prepare", prepare_anew)


def _forget_rollbacks() -> None:
    _replace(Rollbacks, "operations", lambda self, ledger, time_us: [])


def _share_a_directory() -> None:
    _replace(process, "lock_directory", lambda node_dir: contextlib.nullcontext())


# ---- Requests


def _no_dedup() -> None:
    def submit(self: Any, kind: Any, account_id: str, amount: int, transaction_id: str, extra: bytes = b"") -> Any:
        body = service.Body(kind, account_id, amount, extra)
        pending = self._underway.get(transaction_id) or self._begin(body, transaction_id)
        return self._underway.wait(pending, body, time.monotonic())

    _replace(service.PrimaryWalletService, "submit", submit)


def _execute_an_id_twice() -> None:
    """Neither the service nor the ledger remembers; either alone would be enough."""
    _no_dedup()
    apply = Ledger.apply

    def apply_anew(self: Any, first_lsn: int, epoch: int, operations: Any) -> Any:
        for one in operations:
            self.state.transactions.pop(one.transaction_id, None)
        return apply(self, first_lsn, epoch, operations)

    _replace(Ledger, "apply", apply_anew)


def _no_fingerprint() -> None:
    for module in (service, underway):
        _replace(module, "first_difference", lambda transaction, body: None)


def _keep_the_legs_before_a_refusal() -> None:
    move = ledger.move

    def move_each_alone(accounts: Any, rules: Any, legs: Any) -> Any:
        for place, one in enumerate(legs):
            outcome = move(accounts, rules, [one])
            if outcome.code:
                return structs.replace(outcome, leg=place)
        return structs.replace(outcome, figures=tuple(accounts[one] for one in accounts_of(legs)))

    _replace(ledger, "move", move_each_alone)


def _no_limit_of_bodies() -> None:
    application = ports.Application
    _replace(ports, "Application", lambda *limits: application(2**40, 2**40))


def _do_not_look_for_what_is_due() -> None:
    whole = Expiries.__init__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        whole(self, *args, **kwargs)
        self._unread_from_us = expiries._NEVER

    _replace(Expiries, "__init__", begin)


PATCHES: dict[str, Callable[[], None]] = {
    "answer-before-ack": _answer_before_the_ack,
    "solo-without-witness": _go_solo_without_the_witness,
    "roll-back-pending": _roll_back_all_that_is_pending,
    "cut-below-commit": _cut_below_the_commit,
    "any-incarnation": _believe_any_incarnation,
    "old-epochs": _accept_old_epochs,
    "other-clusters": _accept_other_clusters,
    "old-copies": _believe_old_copies,
    "keep-incarnation": _keep_the_incarnation,
    "no-state-sync": _offer_no_checkpoint,
    "ack-before-sync": _ack_before_the_sync,
    "send-before-sync": _send_before_the_sync,
    "no-sync": _skip_the_sync,
    "no-quarantine": _cut_without_quarantine,
    "cut-damage": _take_damage_for_a_torn_tail,
    "checkpoint-checksum": _checkpoints_without_checksums,
    "trim-unheld": _trim_what_no_state_holds,
    "forget-part": _forget_the_part,
    "forget-rollbacks": _forget_rollbacks,
    "no-lock": _share_a_directory,
    "no-dedup": _no_dedup,
    "execute-twice": _execute_an_id_twice,
    "no-fingerprint": _no_fingerprint,
    "legs-stay": _keep_the_legs_before_a_refusal,
    "no-look": _do_not_look_for_what_is_due,
    "no-body-limit": _no_limit_of_bodies,
}


if __name__ == "__main__":
    name = os.environ[BREAK_VARIABLE]
    PATCHES[name]()
    print(f"This node is broken on purpose: {name}", flush=True)
    main()
