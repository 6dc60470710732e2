"""The checker: what was asked and answered, and the invariants that must hold after every fault.

`Client` remembers every request and its final answer. `check` heals the pair, resolves what is in doubt by sending it
again under the same id, and then holds both nodes, their logs and every answer against each other.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ftwallet.journal import Journal
from ftwallet.journal.checkpoints import load_newest
from ftwallet.journal.identity import Identity
from ftwallet.ledger.holds import HELD
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import MOVEMENTS, decode_operations
from ftwallet.ledger.state import WORLD, MemoryState
from ftwallet.node.base import DEFAULT_RULES
from ftwallet.rpc.v1 import wallet_pb2
from tests.faults.harness import Pair
from tests.faults.wire import Answer, Rest, movement, transfer

_CENTS = 100


Move = tuple[str, str, str]
"""From where, to where, and how much as JSON text."""


class Request(Protocol):
    """What a client asks."""

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body."""

    @property
    def moves(self) -> tuple[Move, ...]:
        """What it moves once it is done."""


class Asked(NamedTuple):
    """One deposit or withdrawal as it was first asked; `amount` is JSON text."""

    kind: str
    account_id: str
    amount: str

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body."""
        return f"/{self.kind}", movement(self.account_id, self.amount, transaction_id)

    @property
    def moves(self) -> tuple[Move, ...]:
        if self.kind == "deposit":
            return ((WORLD, self.account_id, self.amount),)
        return ((self.account_id, WORLD, self.amount),)


class AskedTransfer(NamedTuple):
    """One transfer, by its legs."""

    moves: tuple[Move, ...]

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body; a leg that is alone is spelled out."""
        return "/transfer", transfer(self.moves, transaction_id)


class Client:
    """Sends to a pair and remembers: `answers` are the first final ones, `absent` the ids that must leave no record.

    `unasked` is what the pair has moved by records of its own: holds that have expired.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.asked: dict[str, Request] = {}
        self.answers: dict[str, Answer] = {}
        self.absent: set[str] = set()
        self.unasked: list[Move] = []
        self.epochs: dict[str, int] = {}
        self._numbers = iter(range(1, 1_000_000))

    def new_id(self, word: str = "t") -> str:
        return f"{word}-{next(self._numbers)}"

    def deposit(self, amount: str = "10.5", account_id: str = "user123", transaction_id: str | None = None) -> Answer:
        """A deposit that must be answered with 200."""
        answer = self.send("deposit", account_id, amount, transaction_id or self.new_id())
        assert answer is not None, f"no answer\n{self.pair.told()}"
        assert answer.status == 200, f"{answer}\n{self.pair.told()}"
        return answer

    def send(
        self, kind: str, account_id: str, amount: str, transaction_id: str, rest: Rest | None = None
    ) -> Answer | None:
        """Send a deposit or withdrawal once; see `ask`."""
        return self.ask(Asked(kind, account_id, amount), transaction_id, rest)

    def ask(self, asked: Request, transaction_id: str, rest: Rest | None = None) -> Answer | None:
        """Send once, first time or again; the same id must have the same answer for ever."""
        first_asked = self.asked.setdefault(transaction_id, asked)
        assert asked == first_asked, "one id for two bodies is not for this client"
        answer = (rest or self.pair.rest).call("POST", *asked.request(transaction_id))
        if answer is not None and answer.final:
            first = self.answers.setdefault(transaction_id, answer)
            assert (answer.status, answer.body) == (first.status, first.body), f"{transaction_id} has two answers"
        return answer

    def again(self, transaction_id: str) -> Answer | None:
        """Send a transaction again under its id."""
        return self.ask(self.asked[transaction_id], transaction_id)

    def answered_again(self, transaction_id: str) -> None:
        """An acknowledged transaction, sent again, must have its answer from the log."""
        answer = self.again(transaction_id)
        assert answer is not None, f"no answer\n{self.pair.told()}"
        assert answer.replayed, f"{answer}\n{self.pair.told()}"

    def known(self, transaction_id: str) -> dict[str, Any] | None:
        """What `GET /transactions/{id}` says; None when the id is unknown."""
        answer = self.pair.rest.call("GET", f"/transactions/{transaction_id}")
        assert answer is not None
        assert answer.status in (200, 404), answer
        return answer.document if answer.status == 200 else None

    def in_doubt(self) -> list[str]:
        return [transaction_id for transaction_id in self.asked if transaction_id not in self.answers]


class Sending:
    """One request in a thread of its own; `answer` waits for it, and is None when none came."""

    def __init__(
        self,
        client: Client,
        transaction_id: str,
        amount: str = "1.25",
        account_id: str = "user123",
        *,
        asked: Request | None = None,
    ) -> None:
        self.transaction_id = transaction_id
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._rest = Rest(client.pair.ports["http_port"])
        arguments = (client, asked or Asked("deposit", account_id, amount))
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Answer | None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the request still waits"
        if self._error:
            raise self._error
        return self._answer

    def _run(self, client: Client, asked: Request) -> None:
        try:
            self._answer = client.ask(asked, self.transaction_id, self._rest)
        except BaseException as error:
            self._error = error
        finally:
            self._rest.close()


# ---- The invariants


def check(client: Client) -> None:
    """Heal the pair and check every invariant."""
    pair = client.pair
    heal(pair)
    resolve(client)
    statuses = [pair.until(lambda node=node: _settled(pair, node), "both logs are the same length") for node in "ab"]
    _check_statuses(client, *statuses)
    logs = [_Log.read(pair, node) for node in "ab"]
    for log, status in zip(logs, statuses, strict=True):
        assert log.chain == status.chain.hex(), f"node {status.node} says another chain than its log holds"
        assert log.ledger.digest == status.digest, f"node {status.node} has executed its log differently"
        log.ledger.check()
    whole = min(logs, key=lambda log: log.first_lsn)
    for log in logs:
        assert log.operations == [one for one in whole.operations if one[0] >= log.first_lsn], "the logs differ"
    _check_each_once(client, whole)
    _check_balances(client, whole.ledger)
    _check_reads(client, whole.ledger)
    _check_holds(client, whole.ledger)
    _check_on_both(client)


def heal(pair: Pair) -> None:
    """Continue who is stopped, start who is dead, and wait until they are paired again by themselves."""
    for node in pair.nodes.values():
        if node.alive:
            node.resume()
            node.disarm()
    pair.start_both()


def resolve(client: Client) -> None:
    """Send everything again: what is in doubt gets its outcome, the rest must answer as before."""
    for transaction_id in list(client.asked):
        answered_before = transaction_id in client.answers
        answer = client.again(transaction_id)
        assert answer is not None, f"{transaction_id} got no answer from a healed pair\n{client.pair.told()}"
        assert answer.final, f"{transaction_id} is in doubt on a healed pair: {answer}\n{client.pair.told()}"
        assert answer.replayed or not answered_before, f"{transaction_id} was executed again"


class _Log(NamedTuple):
    """A node's log as it lies on disk, and the ledger that a replay of it gives, after a checkpoint if it begins so."""

    first_lsn: int
    operations: list[tuple[int, int, str]]  # lsn, kind, transaction id
    chain: str
    ledger: Ledger

    @classmethod
    def read(cls, pair: Pair, node: str) -> _Log:
        directory = pair.data_dir / node
        journal = Journal.open(directory / "journal", Identity.load(directory).cluster_id, read_only=True)
        operations: list[tuple[int, int, str]] = []
        ledger = Ledger(DEFAULT_RULES, MemoryState())
        if journal.first_lsn > 1:
            loaded = load_newest(directory / "checkpoints", lambda meta: journal.holds(meta.lsn, meta.chain))
            assert loaded is not None, f"node {node} has no checkpoint, and its log begins with {journal.first_lsn}"
            ledger = Ledger.restore(loaded[1])
        with closing(journal):
            for block in journal.blocks():
                content = decode_operations(block.payload)
                operations += [(lsn, one.kind, one.transaction_id) for lsn, one in enumerate(content, block.first_lsn)]
                if block.first_lsn > ledger.applied_lsn:
                    ledger.apply(block.first_lsn, block.epoch, content)
            return cls(journal.first_lsn, operations, journal.chain.hex(), ledger)


def _settled(pair: Pair, name: str) -> wallet_pb2.NodeStatus | None:
    """A node's status once it stands where its partner stands, with nothing under way."""
    a, b = pair.a.status(), pair.b.status()
    if a is None or b is None:
        return None
    if not a.durable_lsn == a.commit_lsn == a.applied_lsn == b.durable_lsn == b.applied_lsn:
        return None
    return a if name == "a" else b


def _check_statuses(client: Client, a: wallet_pb2.NodeStatus, b: wallet_pb2.NodeStatus) -> None:
    assert (a.chain, a.digest) == (b.chain, b.digest), "the nodes differ"
    assert a.epoch == b.epoch
    register = client.pair.register()
    assert register.in_sync == {"a": a.incarnation, "b": b.incarnation}
    identities = {name: Identity.load(client.pair.data_dir / name).epoch for name in "ab"}
    for who, epoch in {"witness": register.epoch, **identities}.items():
        assert epoch >= client.epochs.get(who, 0), f"the epoch of {who} went back"
        client.epochs[who] = epoch
    assert a.counters["duplicates"] == b.counters["duplicates"] == 0, "a record was applied twice"


def _check_each_once(client: Client, log: _Log) -> None:
    moved = Counter(id_ for _, kind, id_ in log.operations if kind in MOVEMENTS)
    if log.first_lsn > 1:  # the oldest may be in the state alone, where each can be only once
        moved.update(id_ for id_ in client.asked.keys() - moved.keys() if log.ledger.find(id_) is not None)
    assert moved == Counter(client.asked.keys()), "not every transaction is in the log exactly once"
    known = {id_ for _, _, id_ in log.operations}
    assert not known & client.absent, "a refused request has left a record"
    for transaction_id, answer in client.answers.items():
        found = log.ledger.find(transaction_id)
        assert found is not None
        assert found.status == "COMMITTED"
        assert found.success == (answer.status == 200), f"{transaction_id}: {found} and {answer}"


def _check_balances(client: Client, ledger: Ledger) -> None:
    expected: Counter[str] = Counter()
    answered = [asked.moves for id_, asked in client.asked.items() if client.answers[id_].status == 200]
    for source, target, amount in chain(*answered, client.unasked):
        minor = int(Decimal(json.loads(amount, parse_float=str, parse_int=str)) * _CENTS)
        expected[source] -= minor
        expected[target] += minor
    for own in [name for name in expected if name.startswith(HELD)]:
        assert ledger.balance(own) == expected.pop(own), f"{own} is not what is on hold"
    assert ledger.balance(WORLD) == expected.pop(WORLD, 0)
    assert dict(ledger.export_accounts()) == expected, "the balances are not the sums of what was acknowledged"


def _check_reads(client: Client, ledger: Ledger) -> None:
    """The digest is of outcomes alone: what a refusal has moved all the same shows in the node's own balances."""
    for account_id, balance in ledger.export_accounts():
        answer = client.pair.rest.call("POST", "/balance", json.dumps({"account_id": account_id}).encode())
        assert answer is not None
        said = json.loads(answer.body, parse_float=Decimal)
        assert said.get("balance") == Decimal(balance) / _CENTS, f"the primary says {said} of {account_id}"


def _check_holds(client: Client, ledger: Ledger) -> None:
    """The records of a node's own state, which the digest is not of, are those of the replay."""
    for hold_id, asked in client.asked.items():
        path, _ = asked.request(hold_id)
        if path == "/holds" and client.answers[hold_id].status == 200:
            answer, found = client.pair.rest.call("GET", f"/holds/{hold_id}"), ledger.hold(hold_id)
            assert answer is not None
            assert found is not None
            shown = json.loads(answer.body, parse_float=Decimal)
            figures = [Decimal(minor) / _CENTS for minor in (found.amount, found.captured, found.left)]
            assert [shown[name] for name in ("amount", "captured", "left")] == figures, f"the primary says {shown}"
            assert shown["status"] == found.state.name.lower()


def _check_on_both(client: Client) -> None:
    for transaction_id, answer in client.answers.items():
        documents = [client.pair.nodes[name].find(transaction_id) for name in "ab"]
        assert documents[0] == documents[1]
        assert documents[0] is not None
        assert documents[0]["status"] == "COMMITTED"
        assert documents[0]["success"] == (answer.status == 200)


def bytes_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory but sockets, by its path."""
    files: Iterable[Path] = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
