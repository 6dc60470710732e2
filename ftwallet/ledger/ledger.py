"""The state machine: blocks of operations in, outcomes out, the same on every node and in every replay.

Every movement of money is double entry: what an account gains, another loses, and the outside world is the
account `@world`, so all balances always add up to zero. Outcomes depend on nothing but the operations
before, in order of lsn. The digest chains the outcomes of all blocks: two nodes that hold the same log up
to an lsn and differ in digest have executed it differently, which no disk or network fault explains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Final

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.holding import Book, capture_hold, expire_hold, place_hold, release_hold
from ftwallet.ledger.holds import HELD, Hold, capture_terms, decode_hold, hold_key, release_terms
from ftwallet.ledger.imports import imported_outcome
from ftwallet.ledger.kept import Kept
from ftwallet.ledger.legs import decode_legs
from ftwallet.ledger.moving import move
from ftwallet.ledger.needs import needs
from ftwallet.ledger.operations import MOVEMENTS, Body, Kind, Operation, rolled_back_body
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Transaction
from ftwallet.ledger.packed import (
    is_rolled_back,
    pack,
    recorded_outcome,
    recorded_transaction,
    remember,
    remember_movement,
)
from ftwallet.ledger.rules import Rules, decode_rules, require_valid
from ftwallet.ledger.state import WORLD, MemoryState, Standing, State, Unread

_DIGEST_BYTES: Final = 32
_OK: Final = OutcomeCode.OK
_INSUFFICIENT: Final = Outcome(OutcomeCode.INSUFFICIENT_BALANCE)
_NOT_FOUND: Final = Outcome(OutcomeCode.ACCOUNT_NOT_FOUND)
_GROUP_REFUSED: Final = Outcome(OutcomeCode.GROUP_REFUSED)
# Plain integers: comparing with a member of an IntEnum costs several times as much.
_DEPOSIT: Final = int(Kind.DEPOSIT)
_WITHDRAW: Final = int(Kind.WITHDRAW)
_GROUP: Final = int(Kind.GROUP)


class Ledger:
    """Balances and remembered transactions, moved forward a block at a time.

    `rules` are those that a new ledger begins with, the same on both nodes; a state that stands somewhere
    already keeps its own. `duplicates` counts operations whose id had its outcome already: callers filter
    them out, so any at all point at a fault there.
    """

    def __init__(self, rules: Rules, state: State) -> None:
        self._state = state
        self._standing = state.standing or Standing(0, bytes(_DIGEST_BYTES), require_valid(rules))
        self.duplicates = 0
        state.stand(self._standing)

    @property
    def state(self) -> State:
        """What it knows: for who brings in what is on disk, and writes it there. Only the ledger changes it."""
        return self._state

    @property
    def applied_lsn(self) -> int:
        """Lsn of the last operation that the balances contain; 0 when there is none."""
        return self._standing.applied_lsn

    @property
    def digest(self) -> bytes:
        """Chain over the outcomes of all blocks, 32 bytes; equal on both nodes at equal `applied_lsn`."""
        return self._standing.digest

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._standing.rules

    def apply(self, first_lsn: int, epoch: int, operations: Sequence[Operation]) -> list[Outcome]:
        """Execute one block, whose operations take the lsns from `first_lsn` on; outcomes in the same order.

        Raises BrokenInvariant when the block does not follow what was applied, or holds what no primary
        writes; the ledger is not to be used after that.
        """
        if first_lsn != self.applied_lsn + 1:
            raise BrokenInvariant(f"a block from lsn {first_lsn} cannot follow lsn {self.applied_lsn}")
        self._state.begin(operations)
        outcomes: list[Outcome] = []
        records: list[bytes] = []
        rest = iter(operations)
        while group := self._execute(first_lsn + len(outcomes), epoch, rest, outcomes, records):
            members = list(islice(rest, min(group.amount, len(operations))))
            self._execute_group(first_lsn + len(outcomes), epoch, group, members, outcomes, records)
        if records:
            digest = blake2b(self.digest + b"".join(records), digest_size=_DIGEST_BYTES).digest()
            time_us = max(self.time_us, operations[-1].time_us)
            self._standing = Standing(first_lsn + len(records) - 1, digest, self.rules, time_us)
            self._state.stand(self._standing)
        return outcomes

    def _execute(
        self,
        lsn: int,
        epoch: int,
        operations: Iterator[Operation],
        outcomes: list[Outcome],
        records: list[bytes],
    ) -> Operation | None:
        """The path of every deposit and withdrawal, in one loop: one more call in it costs a tenth of it.

        It ends with the operations, or at a GROUP, which is returned: its movements are decided together. What is
        done without further ado is done here; all else is looked at by the methods, which say what the rules are.
        """
        remembered, accounts = self._state.transactions, self._state.accounts
        recall, balance_of, limit = remembered.get, accounts.get, self._standing.rules.max_balance
        from_world = 0
        for operation in operations:
            transaction_id, kind, amount = operation.transaction_id, operation.kind, operation.low
            account_id, recorded = operation.account_id, recall(transaction_id)
            if kind == _DEPOSIT:
                new_balance, moved = balance_of(account_id, 0) + amount, amount
            elif kind == _WITHDRAW:
                new_balance, moved = balance_of(account_id, -1) - amount, -amount
            elif kind == _GROUP:
                accounts[WORLD] -= from_world
                return operation
            else:
                new_balance, moved = -1, 0
            if recorded is None and 0 <= new_balance <= limit and account_id != WORLD and not operation.high:
                accounts[account_id] = new_balance
                from_world += moved
                outcome = Outcome(_OK, new_balance)
                record = pack(kind, 0, account_id, lsn, epoch, operation.time_us, amount, new_balance)
                remembered[transaction_id] = record
            else:
                outcome, record = self._execute_slowly(lsn, epoch, operation, recorded)
                limit = self._standing.rules.max_balance
            outcomes.append(outcome)
            records.append(record)
            lsn += 1
        accounts[WORLD] -= from_world
        return None

    def _execute_slowly(
        self, lsn: int, epoch: int, operation: Operation, recorded: bytes | None
    ) -> tuple[Outcome, bytes]:
        """Any one operation but a group."""
        if operation.kind not in MOVEMENTS or (recorded is not None and not is_rolled_back(recorded)):
            return self._uncommon(lsn, epoch, operation)
        try:
            outcome = self._move(self._book, operation)
        except ValueError as error:
            raise _bad_record(lsn, error) from error
        record = remember_movement(operation, outcome, lsn, epoch)
        self._state.transactions[operation.transaction_id] = record
        return outcome, record

    def _execute_group(
        self,
        lsn: int,
        epoch: int,
        group: Operation,
        members: Sequence[Operation],
        outcomes: list[Outcome],
        records: list[bytes],
    ) -> None:
        """All of these movements, or none; an id that has its outcome already keeps it, and has no say."""
        if len(members) != group.amount or any(one.kind not in MOVEMENTS for one in members):
            raise BrokenInvariant(f"the group at lsn {lsn} holds what no primary writes")
        remembered = self._state.transactions
        fresh: dict[str, Operation] = {}
        for one in members:
            recorded = remembered.get(one.transaction_id)
            if recorded is None or is_rolled_back(recorded):
                fresh.setdefault(one.transaction_id, one)
        try:
            done, decided = self._decide(list(fresh.values()))
        except ValueError as error:
            raise _bad_record(lsn, error) from error
        code = _OK if done else OutcomeCode.GROUP_REFUSED
        outcomes.append(Outcome(code))
        records.append(pack(group.kind, code, "", lsn, epoch, group.time_us, group.amount, None))
        undecided = dict(zip(fresh, decided, strict=True))
        for at, one in enumerate(members, lsn + 1):
            outcome = undecided.pop(one.transaction_id, None)
            if outcome is None:
                outcome, record = self._uncommon(at, epoch, one)
            else:
                record = remembered[one.transaction_id] = remember_movement(one, outcome, at, epoch)
            outcomes.append(outcome)
            records.append(record)

    def _decide(self, movements: Sequence[Operation]) -> tuple[bool, list[Outcome]]:
        """Whether all of them can be done, one after the other; only then have they moved money."""
        state = self._state
        names, keys = needs(movements, state.record)
        accounts = {name: state.accounts[name] for name in (WORLD, *names) if name in state.accounts}
        records = {key: state.records[key] for key in keys if key in state.records}
        book = Book(accounts, records)
        decided: list[Outcome] = []
        for place, one in enumerate(movements):
            outcome = self._move(book, one)
            if outcome.code != _OK:
                refused = [_GROUP_REFUSED] * len(movements)
                refused[place] = outcome
                return False, refused
            decided.append(outcome)
        state.accounts.update(accounts)
        for key, record in records.items():
            state.records[key] = record
        return True, decided

    @property
    def _book(self) -> Book:
        return Book(self._state.accounts, self._state.records)

    def _move(self, book: Book, one: Operation) -> Outcome:
        """Any one movement; raises ValueError on a bad record."""
        kind = one.kind
        if kind == _DEPOSIT:
            return self._deposit(book.accounts, one.account_id, one.amount)
        if kind == _WITHDRAW:
            return self._withdraw(book.accounts, one.account_id, one.amount)
        rules = self._standing.rules
        match kind:
            case Kind.TRANSFER:
                return move(book.accounts, rules, decode_legs(one.extra))
            case Kind.HOLD:
                return place_hold(book, one)
            case Kind.CAPTURE:
                return capture_hold(book, rules, capture_terms(one.extra), one.amount, one.time_us)
            case _:
                return release_hold(book, release_terms(one.extra).hold_id, one.time_us)

    def _deposit(self, accounts: Kept[int], account_id: str, amount: int) -> Outcome:
        if account_id == WORLD:
            return _NOT_FOUND
        new_balance = (accounts.get(account_id) or 0) + amount
        limit = self._standing.rules.max_balance
        if new_balance > limit:
            return Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=limit)
        accounts[WORLD] -= amount
        accounts[account_id] = new_balance
        return Outcome(_OK, new_balance)

    def _withdraw(self, accounts: Kept[int], account_id: str, amount: int) -> Outcome:
        balance = accounts.get(account_id)
        if balance is None or account_id == WORLD:
            return _NOT_FOUND
        if balance < amount:
            return _INSUFFICIENT
        accounts[WORLD] += amount
        accounts[account_id] = balance - amount
        return Outcome(_OK, balance - amount)

    def _uncommon(self, lsn: int, epoch: int, operation: Operation) -> tuple[Outcome, bytes]:
        """What no client asked for: a rollback, an import, new rules, an id that has its outcome already."""
        transaction_id = operation.transaction_id
        recorded = self._state.transactions.get(transaction_id)
        if recorded is not None and not is_rolled_back(recorded):
            self.duplicates += 1
            return recorded_outcome(recorded), recorded
        try:
            body, outcome = self._settle(operation)
        except ValueError as error:
            raise _bad_record(lsn, error) from error
        record = remember(body, outcome, lsn, epoch, operation.time_us)
        if transaction_id:
            self._state.transactions[transaction_id] = record
        return outcome, record

    def _settle(self, operation: Operation) -> tuple[Body | None, Outcome]:
        """Body to remember (None where it is not known) and outcome; raises ValueError on a bad record."""
        kind, account_id, amount, _ = operation.body
        if kind is Kind.ROLLED_BACK:
            return rolled_back_body(operation), Outcome(OutcomeCode.ROLLED_BACK)
        if kind is Kind.IMPORTED_TRANSACTION:
            imported = imported_outcome(operation)
            body = Body(Kind(imported.kind), account_id, amount, imported.extra) if imported.kind else None
            return body, Outcome(imported.code, imported.new_balance, figures=imported.figures, leg=imported.leg)
        if kind is Kind.IMPORTED_BALANCE:
            return Body(kind, account_id, amount), self._open_account(operation)
        if kind is Kind.EXPIRE:
            hold_id = release_terms(operation.extra).hold_id
            return operation.body, expire_hold(self._book, hold_id, operation.time_us)
        if kind is Kind.CHANGED_RULES:
            return Body(kind, account_id, amount), self._change_rules(decode_rules(operation.extra))
        raise ValueError(f"a {kind.name} among the uncommon")

    def _open_account(self, imported: Operation) -> Outcome:
        accounts = self._state.accounts
        if imported.account_id in accounts:
            return Outcome(OutcomeCode.ACCOUNT_EXISTS)
        return self._deposit(accounts, imported.account_id, imported.amount)

    def _change_rules(self, rules: Rules) -> Outcome:
        """Decimals are the meaning of every balance, so they only change before there are any."""
        if rules.exponent != self.rules.exponent and any(self.export_accounts()):
            return Outcome(OutcomeCode.CURRENCY_FIXED)
        self._standing = self._standing._replace(rules=rules)
        return Outcome(_OK)

    def recall(self, transaction_id: str) -> Transaction | None:
        """What is remembered, in memory, under an id; None where it is unread, too."""
        packed = self._state.transaction(transaction_id)
        return None if packed is None else recorded_transaction(transaction_id, packed)

    def find(self, transaction_id: str) -> Transaction | None:
        """What is remembered under an id; None for one that was neither executed nor rolled back.

        Reads the disk on the spot where it has to.
        """
        self._read(self._state.unread((), (transaction_id,)))
        return self.recall(transaction_id)

    def balance(self, account_id: str) -> int | None:
        """Balance in minor units, `@world` too; None when there is no such account. Reads the disk as `find` does."""
        self._read(self._state.unread((account_id,), ()))
        return self._state.account(account_id)

    def hold(self, hold_id: str) -> Hold | None:
        """A hold as it stands, None when there is none. Reads the disk as `find` does."""
        key = hold_key(hold_id)
        self._read(self._state.unread((), (), (key,)))
        record = self._state.record(key)
        return decode_hold(record) if record else None

    def _read(self, unread: Unread) -> None:
        while unread and not self._state.take(self._state.fetch(unread)):
            pass

    def check(self) -> None:
        """Raise BrokenInvariant unless all balances add up to zero and none but `@world`'s is negative."""
        total = 0
        for account_id, balance in self._state.export_accounts():
            total += balance
            if balance < 0 and account_id != WORLD:
                raise BrokenInvariant(f"account {account_id!r} has {balance} minor units")
        if total:
            raise BrokenInvariant(f"all balances add up to {total} minor units, not to zero")

    def export_accounts(self) -> Iterator[tuple[str, int]]:
        """Every account but the ledger's own with its balance in minor units, as they are at this call.

        The balance is what is available; `export_totals` has what is on hold as well.
        """
        return (pair for pair in self._state.export_accounts() if not pair[0].startswith("@"))

    def export_totals(self) -> Iterator[tuple[str, int]]:
        """The same, but each with what it has on hold."""
        return _totals(self._state.export_accounts(), self._state.export_accounts())

    def transactions(self) -> Iterator[Transaction]:
        """Every transaction remembered at this call."""
        return (recorded_transaction(*pair) for pair in self._state.export_transactions())

    @property
    def time_us(self) -> int:
        """The time of the last operation, microseconds since 1970 UTC; 0 when there is none."""
        return self._standing.time_us

    @classmethod
    def restore(cls, chunks: Iterable[bytes], state: State | None = None) -> Ledger:
        """The ledger of a checkpoint's chunks, loaded into an empty state (in memory unless one is given).

        Raises ValueError when the chunks are not a whole checkpoint, BrokenInvariant on impossible balances.
        """
        state = MemoryState() if state is None else state
        for chunk in chunks:
            state.load_chunk(chunk)
        if state.standing is None:
            raise ValueError("the checkpoint of the ledger ends early")
        ledger = cls(state.standing.rules, state)
        ledger.check()
        return ledger


def _totals(all_accounts: Iterator[tuple[str, int]], once_more: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    held = {name: balance for name, balance in all_accounts if balance and name.startswith(HELD)}
    for account_id, balance in once_more:
        if not account_id.startswith("@"):
            yield account_id, balance + held.get(HELD + account_id, 0)


def _bad_record(lsn: int, error: ValueError) -> BrokenInvariant:
    return BrokenInvariant(f"the record at lsn {lsn} holds what no primary writes: {error}")
