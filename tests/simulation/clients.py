"""Clients of the simulated world: deposits, withdrawals, transfers, holds, batches, reads, and what each was told.

A retry keeps its ids, and a batch that is all or nothing is sent again as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from ftwallet.journal.identity import Identity
from ftwallet.ledger.legs import Leg, leg, transfer
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction
from ftwallet.ledger.state import WORLD
from ftwallet.wallet import Answer, BatchAnswer, BatchMismatch, Movement, Unavailable, Wallet
from tests.simulation.holds import Asked, Part, anything, body_of
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

TIMEOUT_S = 6.0
LOOK_EVERY_S = 0.02

Ask = Callable[[Wallet], Awaitable[list[Answer]]]
"""Sends calls to a wallet; the answers are in their order."""


@dataclass
class Call:
    """One operation of one client, however often it was tried; `answer` is None while it is in doubt."""

    transaction_id: str
    kind: Kind
    account: str
    amount: int
    began: float
    tries: int = 0
    answer: Transaction | None = None
    doubtful: bool = False  # some try ended without saying that nothing had begun
    given_up: bool = False
    in_flight: int = 0
    group: Group | None = None
    legs: tuple[Leg, ...] = ()  # of a transfer, which has neither account nor amount
    part: Part | None = None  # of a hold, placed or asked something of

    @property
    def body(self) -> Body:
        if self.part is not None:
            return body_of(self.kind, self.account, self.amount, self.part)
        return transfer(self.legs) if self.legs else Body(self.kind, self.account, self.amount)

    @property
    def movement(self) -> Movement:
        kind, account, amount, extra = self.body
        return kind, account, amount, self.transaction_id, extra

    @property
    def refused(self) -> bool:
        """Refused for good: every try was told that nothing had begun, and nobody tries again."""
        return self.given_up and not self.doubtful and not self.in_flight


@dataclass
class Group:
    """Calls of a batch that is all or nothing; none of them is ever asked alone before they are answered."""

    calls: list[Call]

    @property
    def answered(self) -> bool:
        return self.calls[0].answer is not None


@dataclass
class History:
    """What all clients asked and were told, and what reads must not miss."""

    calls: dict[str, Call] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)  # that somebody has asked to place
    answered_lsn: int = 0  # the newest write that anybody was told of
    balances: list[tuple[str, int, int | None]] = field(default_factory=list)  # read: account, lsn, balance
    leaders: dict[int, str] = field(default_factory=dict)  # who has answered in each epoch


class Clients:
    """`begin` lets clients live until `stopping`; `ask_again` sends one operation until it is answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()
        self.process = Process("client")
        self.stopping = False
        self.running = 0
        self._sent = 0
        self._sent_answers: set[str] = set()
        self._somebody_serves: asyncio.Future[None] | None = None
        world.on_counted = self._check_holds_all

    def begin(self, count: int, pace_s: float) -> None:
        for number in range(count):
            random = Random(f"{self.world.seed} client {number}")
            self.running += 1
            self.world.loop.create_task(self._live(number, random, pace_s), context=self.process.context.copy())
        self.running += 1
        random = Random(f"{self.world.seed} batches")
        self.world.loop.create_task(self._send_batches(random, pace_s * 12), context=self.process.context.copy())

    async def _send_batches(self, random: Random, pace_s: float) -> None:
        while not self.stopping:
            await asyncio.sleep(random.expovariate(1 / pace_s))
            calls = [self._random_call_of_any_kind(random, f"b{self._sent}") for _ in range(random.randrange(1, 9))]
            all_or_nothing = random.random() < 0.5
            if all_or_nothing:
                self.group(calls)
            elif random.random() < 0.3:  # overlapping with what was asked before
                calls += [call for call in self.history.calls.values() if call.group is None][-3:]
            await self.ask_batch(calls, all_or_nothing=all_or_nothing, gives_up=random.random() < 0.2)
            if random.random() < 0.1 and self.history.groups:
                await self.ask_batch(random.choice(self.history.groups).calls, all_or_nothing=True)
        self.running -= 1

    def _random_call(self, random: Random, transaction_id: str) -> Call:
        kind = Kind.DEPOSIT if random.random() < 0.6 else Kind.WITHDRAW
        return self.begin_call(transaction_id, kind, f"account-{random.randrange(3)}", random.randrange(1, 100))

    def _random_call_of_any_kind(self, random: Random, transaction_id: str) -> Call:
        dice = random.random()
        if dice < 0.5:
            return self._random_call(random, transaction_id)
        if dice < 0.75:
            return self.begin_hold_call(transaction_id, anything(random, self.history.holds))
        return self.begin_transfer(transaction_id, *_random_legs(random))

    def group(self, calls: list[Call]) -> Group:
        """These are only asked together."""
        group = Group(calls)
        for call in calls:
            call.group = group
        self.history.groups.append(group)
        return group

    async def _live(self, number: int, random: Random, pace_s: float) -> None:
        while not self.stopping:
            await asyncio.sleep(random.expovariate(1 / pace_s))
            account = f"account-{random.randrange(3)}"
            if random.random() < 0.15:
                await self.read(account)
            else:
                call = self._random_call_of_any_kind(random, f"c{number}-{self._sent}")
                await self.ask_again(call, gives_up=random.random() < 0.2)
            if random.random() < 0.05 and (asked := self._may_be_asked_alone()):
                await self.ask_again(random.choice(asked))
        self.running -= 1

    def _may_be_asked_alone(self) -> list[Call]:
        return [call for call in self.history.calls.values() if call.group is None or call.group.answered]

    def crowd(self, count: int, random: Random) -> None:
        """So many at once, more than a primary lets wait."""
        self.world.say("clients", f"{count} come at once")

        async def one(number: int) -> None:
            await self.ask(f"crowd-{number}", Kind.DEPOSIT, f"account-{random.randrange(3)}", 1)
            self.running -= 1

        for number in range(count):
            self.running += 1
            self.world.loop.create_task(one(number), context=self.process.context.copy())

    async def ask(self, transaction_id: str, kind: Kind, account: str, amount: int) -> Call:
        """Until it is answered, with one id."""
        call = self.begin_call(transaction_id, kind, account, amount)
        await self.ask_again(call)
        return call

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer, or is about to ask."""
        return self.running == 0 and not any(call.in_flight for call in self.history.calls.values())

    def begin_call(self, transaction_id: str, kind: Kind, account: str, amount: int) -> Call:
        self._sent += 1
        call = Call(transaction_id, kind, account, amount, self.world.loop.time())
        self.history.calls[transaction_id] = call
        return call

    def begin_transfer(self, transaction_id: str, *legs: Leg) -> Call:
        call = self.begin_call(transaction_id, Kind.TRANSFER, "", 0)
        call.legs = legs
        return call

    def begin_hold_call(self, transaction_id: str, asked: Asked) -> Call:
        """Place a hold, which then has the id of the call, or ask something of one."""
        call = self.begin_call(transaction_id, asked.kind, asked.account, asked.amount)
        call.part = asked.part
        if asked.kind is Kind.HOLD:
            self.history.holds.append(transaction_id)
        return call

    async def ask_again(self, call: Call, *, gives_up: bool = False) -> None:
        """Until it is answered; who gives up does so after the first try that failed."""
        await self._until_answered([call], _asking(call), gives_up=gives_up)

    async def ask_batch(self, calls: Sequence[Call], *, all_or_nothing: bool, gives_up: bool = False) -> None:
        """The same for a batch, in two slices as its body might be read."""

        async def ask(wallet: Wallet) -> list[Answer]:
            movements = [call.movement for call in calls]
            slices = iter([movements[:3], movements[3:]])
            answer = await wallet.submit_batch(slices, len(calls), all_or_nothing=all_or_nothing)
            answers = _answers(calls, answer)
            if all_or_nothing and len({one.transaction.success for one in answers}) > 1:
                self.world.fail(f"all or nothing: a part of the batch from {calls[0].transaction_id} on is done")
            return answers

        await self._until_answered(calls, ask, gives_up=gives_up)

    async def _until_answered(self, calls: Sequence[Call], ask: Ask, *, gives_up: bool) -> None:
        for call in calls:
            call.given_up, call.in_flight = False, call.in_flight + 1
        while not await self._try(calls, ask):
            if gives_up:
                for call in calls:
                    call.given_up = call.answer is None
                break
            await asyncio.sleep(0.05)
        for call in calls:
            call.in_flight -= 1

    async def _try(self, calls: Sequence[Call], ask: Ask) -> bool:
        for call in calls:
            call.tries += 1
        try:
            answers, node, epoch = await asyncio.wait_for(self._send(ask), TIMEOUT_S)
        except (Unavailable, ConnectionResetError, TimeoutError) as error:
            for call in calls:
                call.doubtful |= not isinstance(error, Unavailable) or error.in_doubt
            return False
        for call, answer in zip(calls, answers, strict=True):
            self._told(call, answer.transaction, node, epoch)
            if answer.differs is not None:
                self.world.fail(f"one answer: {call.transaction_id} is said to differ in {answer.differs}")
        return True

    async def send(self, call: Call) -> tuple[Answer, str, int]:
        """Ask once; returns who answered, and the epoch."""
        answers, node, epoch = await self._send(_asking(call))
        return answers[0], node, epoch

    async def _send(self, ask: Ask) -> Any:
        node = await self._connected()
        wallet = node.wallet
        if wallet is None:
            raise ConnectionResetError
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        node.requests.append(answered)

        async def serve() -> None:
            try:
                answers = await ask(wallet)
            except Unavailable as error:
                self._reply(node, answered, error=error)
            except BatchMismatch as error:
                self.world.fail(f"one answer: {error.transaction_id} is said to be of another batch")
            else:
                self._reply(node, answered, value=(answers, node.name, wallet.epoch))

        assert node.process is not None
        self.world.loop.create_task(serve(), context=node.process.context.copy())
        return await answered

    def _reply(self, node: SimNode, answered: asyncio.Future[Any], *, value: Any = None, error: Any = None) -> None:
        def arrive() -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(value)

        if value is not None:  # the kernel sends it, whatever becomes of the process
            self._check_durable([answer.transaction for answer in value[0]], value[1])
        if answered in node.requests:
            node.requests.remove(answered)
        self.world.network.later(self.world.network.delay(node.name, "client"), arrive)

    async def _connected(self) -> SimNode:
        """Connect to whoever serves; the listening socket holds the connection until somebody does."""
        world = self.world
        while True:
            await asyncio.sleep(world.network.delay("client", "rest"))
            serving = self._serving()
            if serving:
                return serving[0] if len(serving) == 1 else world.network.random.choice(serving)
            await self._until_somebody_serves()

    def _serving(self) -> list[SimNode]:
        return [node for node in self.world.nodes.values() if node.wallet is not None and node.alive]

    async def _until_somebody_serves(self) -> None:
        """All who wait look together: if each did, a crowd's looking would be most of a world's steps."""
        if self._somebody_serves is None:
            self._somebody_serves = asyncio.get_running_loop().create_future()
            self.world.loop.create_task(self._look(self._somebody_serves), context=self.process.context.copy())
        await asyncio.shield(self._somebody_serves)  # who gives up does so alone

    async def _look(self, somebody_serves: asyncio.Future[None]) -> None:
        while not self._serving():
            await asyncio.sleep(LOOK_EVERY_S)
        self._somebody_serves = None
        somebody_serves.set_result(None)

    async def read(self, account: str) -> tuple[str, int, int | None] | None:
        """A balance; it must show every write that anybody had been told of before.

        Returns who answered, at which lsn, and what; None when nobody did.
        """
        floor = self.history.answered_lsn
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            node, lsn, balance = await asyncio.wait_for(self._read(account), TIMEOUT_S)
            self.history.balances.append((account, lsn, balance))
            if lsn < floor:
                self.world.fail(
                    f"reads: node {node} answered at lsn {lsn}, and lsn {floor} had been told before it was asked"
                )
            return node, lsn, balance
        return None

    async def _read(self, account: str) -> Any:
        node = await self._connected()
        wallet = node.wallet
        if wallet is None or not wallet.ready:
            raise ConnectionResetError
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        node.requests.append(answered)

        async def serve() -> None:
            balance, lsn = wallet.balance(account), wallet.applied_lsn
            self._reply_read(node, answered, (node.name, lsn, balance))

        assert node.process is not None
        self.world.loop.create_task(serve(), context=node.process.context.copy())
        return await answered

    def _reply_read(self, node: SimNode, answered: asyncio.Future[Any], value: Any) -> None:
        if answered in node.requests:
            node.requests.remove(answered)
        self.world.network.later(
            self.world.network.delay(node.name, "client"), lambda: answered.done() or answered.set_result(value)
        )

    # ---- What must hold at every answer

    def _check_durable(self, told: list[Transaction], node: str) -> None:
        """Durable on every node of the in-sync set, before the answer leaves; and so is the epoch where it is made."""
        identities = {name: self.world.identity(name) for name in self.world.register.in_sync}
        for one in told:
            self._check_one(one, node, identities)

    def _check_one(self, told: Transaction, node: str, identities: dict[str, Identity | None]) -> None:
        world, register = self.world, self.world.register
        for name, incarnation in sorted(register.in_sync.items()):
            if name in world.spoilt:  # it was there when it was acked; then the disk was taken
                continue
            if (identity := identities[name]) is None or identity.incarnation != incarnation:
                world.fail(f"durable: node {name} in sync is not the one that the witness knows")
            elif not world.nodes[name].disk.holds(told.transaction_id.encode()):
                world.fail(
                    f"durable: {told.transaction_id} is answered by {node}, and node {name}, in sync, has not synced it"
                )
        own = identities.get(node)
        if own is not None and own.epoch < told.epoch:  # not the epoch that it leads in: that may just have begun
            world.fail(f"epochs: node {node} answers what it did in epoch {told.epoch}, its disk knows {own.epoch}")
        self._sent_answers.add(told.transaction_id)
        world.say(node, f"answers {told.transaction_id}: lsn {told.lsn}, {OutcomeCode(told.code).name}")

    def _check_holds_all(self, node: SimNode) -> None:
        """Whoever joins the in-sync set, or leads, has synced all that was ever answered."""
        for transaction_id in sorted(self._sent_answers):
            if not node.disk.holds(transaction_id.encode()):
                self.world.fail(f"durable: node {node.name} joins or leads, and has not synced {transaction_id}")

    def _told(self, call: Call, told: Transaction, node: str, epoch: int) -> None:
        leader = self.history.leaders.setdefault(epoch, node)
        if leader != node:
            self.world.fail(f"one writer: nodes {leader} and {node} have both answered in epoch {epoch}")
        if told.code == OutcomeCode.ROLLED_BACK:
            self.world.fail(f"retry: {call.transaction_id} was rolled back, and is not executed when it is asked again")
        before = call.answer
        if before is not None and said(before) != said(told):
            self.world.fail(f"one answer: {call.transaction_id} was told {before} and now {told}")
        call.answer = told
        self.history.answered_lsn = max(self.history.answered_lsn, told.lsn)


def said(told: Transaction) -> tuple[object, ...]:
    """All of an answer that must be the same in every other answer under its id."""
    return told.lsn, told.code, told.new_balance, told.figures, told.leg


def _random_legs(random: Random) -> list[Leg]:
    """One to four, of which a later one may be refused: what the one before brought in, or more, goes on."""
    accounts = [f"account-{number}" for number in range(3)] + [WORLD]
    if random.random() < 0.1:
        accounts.append("account-that-nobody-opens")
    legs: list[Leg] = []
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        source, target = random.sample(accounts, 2)
        if target == "account-that-nobody-opens":
            source, target = target, source
        legs.append(leg(source, target, random.randrange(1, 60)))
    return legs


def _asking(call: Call) -> Ask:
    async def ask(wallet: Wallet) -> list[Answer]:
        kind, account, amount, extra = call.body
        return [await wallet.submit(kind, account, amount, call.transaction_id, extra)]

    return ask


def _answers(calls: Sequence[Call], batch: BatchAnswer) -> list[Answer]:
    """Of each call, what was done now as well as what had been asked before."""
    answers = []
    for call, result, lsn in zip(calls, batch.results, batch.lsns, strict=True):
        if isinstance(result, Answer):
            answers.append(result)
            continue
        done = (result.code, result.new_balance, lsn, batch.epoch, 0, Status.COMMITTED, result.limit)
        told = Transaction(call.transaction_id, call.kind, call.account, call.amount, *done)
        transaction = told._replace(figures=result.figures, leg=result.leg)
        answers.append(Answer(transaction, replayed=False, mode=batch.mode))
    return answers
