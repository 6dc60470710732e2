"""The commands of a scenario, each a method `do_…`; what happens while one is played is what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

from ftwallet.journal.set_aside import Blocks, copies
from ftwallet.ledger.legs import accounts_of, decode_legs, leg
from ftwallet.ledger.operations import Kind, Operation, decode_operations
from ftwallet.ledger.outcomes import OutcomeCode, Transaction
from ftwallet.node.backup import BackupNode
from ftwallet.node.primary import PrimaryNode
from ftwallet.wallet import Unavailable
from tests.scenarios.traps import Trap, record_streams
from tests.scenarios.words import worded
from tests.simulation import runner
from tests.simulation.clients import TIMEOUT_S, Call, Clients
from tests.simulation.disk import PLENTY

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

PATIENCE_S = 30.0
NEARLY_FULL_BYTES = 1 << 20
_UNDER_WAY_S = 0.1
_FOR_EVER_S = 1e6
DAY_S = 86_400


class Fixed(Random):
    """Always the same: every delay lies at one place of its range."""

    def __init__(self, at: float) -> None:
        super().__init__(0)
        self._at = at

    def random(self) -> float:
        return self._at


class Stage:
    """A world, and the commands that are given to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients = Clients(world)
        self.streams = record_streams(world.network)
        self._armed: dict[str, str] = {}
        self._shown = 0
        self._steady()

    def _steady(self) -> None:
        """No luck: equal delays, and a disk that loses all that was not synced."""
        world = self.world
        world.config = world.config.model_copy(update={"min_free_bytes": NEARLY_FULL_BYTES + 1})
        world._disk_random = world.network.random = world.supervisor._random = Fixed(0.5)
        for node in world.nodes.values():
            node.disk.random = Fixed(0.0)

    # ---- Playing

    async def begin(self) -> None:
        await self.world.until(self.world.paired, PATIENCE_S)
        self._shown = len(self.world.trace)

    async def command(self, line: str) -> list[str]:
        """Play one line. Returns what was seen; raises ValueError for a line that is no command."""
        name, *words = line.split()
        act: Callable[..., Any] | None = getattr(self, f"do_{name.replace('-', '_')}", None)
        if act is None:
            raise ValueError(f"{line!r}: there is no command {name!r}; see tests/scenarios/commands.py")
        told = await act(*words) or []
        happened = [self._worded(said) for said in self.world.trace[self._shown :]]
        self._shown = len(self.world.trace)
        seen = [*(said for said in happened if said is not None), *told]
        return [said.replace(f"{self.world.config.data_dir}/", "") for said in seen]

    def _worded(self, trace_line: str) -> str | None:
        said = worded(trace_line)
        return said and said.replace("the armed stage", self._armed.get(said.split()[0], ""))

    async def end(self) -> None:
        """Peace, and then everything must be well."""
        for node in self.world.nodes.values():
            node.kept_down = False
            if node.given_up:
                node.given_up, node.start_at = "", self.world.loop.time()
        for call in self.clients.history.calls.values():
            if call.answer is None:
                self.clients.running += 1
                self._spawn(self._answered_at_last(call))
        await runner.end_well(self.world, self.clients)

    async def _answered_at_last(self, call: Call) -> None:
        await self.clients.ask_again(call)
        self.clients.running -= 1

    def dispose(self) -> None:
        self.world.graveyard.append(self.clients.process)

    def _say(self, sentence: str) -> None:
        self.world.say("client", sentence)

    # ---- Clients

    async def do_deposit(self, transaction_id: str, account: str, amount: str) -> None:
        await self._ask(self._call(transaction_id, Kind.DEPOSIT, account, amount))

    async def do_withdraw(self, transaction_id: str, account: str, amount: str) -> None:
        await self._ask(self._call(transaction_id, Kind.WITHDRAW, account, amount))

    async def do_transfer(self, transaction_id: str, *words: str) -> None:
        """`transfer t3 alice shop 60 shop fees 3`: from, to and how much of each leg."""
        legs = [leg(words[at], words[at + 1], int(words[at + 2])) for at in range(0, len(words), 3)]
        call = self._call(transaction_id, Kind.TRANSFER, "", "0")
        call.legs = tuple(legs)
        await self._ask(call)

    async def do_begin(self, kind: str, transaction_id: str, account: str, amount: str) -> None:
        """Ask, and do not wait for the answer."""
        self._spawn(self._ask(self._call(transaction_id, Kind[kind.upper()], account, amount)))
        await asyncio.sleep(_UNDER_WAY_S)

    async def do_retry(self, transaction_id: str, times: str = "1", *_: str) -> list[str] | None:
        """`retry t1`, or `retry t1 100 times at once`."""
        call = self.clients.history.calls[transaction_id]
        if times == "1":
            await self._try(call)
            return None
        tries = [self._spawn(self.clients.ask_again(call)) for _ in range(int(times))]
        answers = await asyncio.gather(*tries)
        told = call.answer
        assert told is not None
        return [f"{transaction_id}: {len(answers)} answers, all of them lsn {told.lsn}, {OutcomeCode(told.code).name}"]

    async def do_balance(self, account: str) -> list[str]:
        read = await self.clients.read(account)
        if read is None:
            return [f"balance of {account}: nobody answers"]
        node, lsn, balance = read
        return [f"balance of {account}: {'unknown' if balance is None else balance}, read on {node} at lsn {lsn}"]

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        return self.world.loop.create_task(work, context=self.clients.process.context.copy())

    def _call(self, transaction_id: str, kind: Kind, account: str, amount: str) -> Call:
        return Call(transaction_id, kind, account, int(amount), self.world.loop.time())

    async def _ask(self, call: Call) -> None:
        self.clients.history.calls.setdefault(call.transaction_id, call)
        await self._try(call)

    async def _try(self, call: Call) -> None:
        name = call.transaction_id
        try:
            answer, node, epoch = await asyncio.wait_for(self.clients.send(call), TIMEOUT_S)
        except Unavailable as refusal:
            doubt = "in doubt" if refusal.in_doubt else "surely not begun"
            self._say(f"{name}: 503, {doubt}: {refusal.sentence}")
        except ConnectionResetError:
            self._say(f"{name}: in doubt, the connection broke")
        except TimeoutError:
            self._say(f"{name}: in doubt, nobody answers")
        else:
            told = answer.transaction
            if answer.differs is not None:
                self._say(f"{name}: 422, this id was used with another {answer.differs}")
                return
            self.clients._told(self.clients.history.calls[name], told, node, epoch)
            again = ", as answered before" if answer.replayed else ""
            self._say(
                f"{name}: {OutcomeCode(told.code).name}, lsn {told.lsn}, epoch {told.epoch}, "
                f"{_balances(told)}, from {node}, {answer.mode}{again}"
            )

    # ---- Deaths

    async def do_kill(self, who: str, *where: str) -> None:
        """`kill a`, `kill primary at pending`, `kill both`, `kill b before fdatasync of journal`."""
        await self._strike(who, where, power=False)

    async def do_power_loss(self, who: str, *where: str) -> None:
        """As `kill`; what was not synced is lost."""
        await self._strike(who, where, power=True)

    async def _strike(self, who: str, where: tuple[str, ...], *, power: bool) -> None:
        world = self.world
        if who == "both":
            first, second = world.primary, world.backup
            world.kill(first, power=power)
            world.kill(second, power=power)
        elif not where:
            world.kill(world.node(who), power=power)
        elif where[0] == "at":
            self._armed[world.node(who).name] = where[1]
            world.arm(world.node(who), where[1])
        else:
            node = world.node(who)
            why = f"dies {' '.join(where)}"
            Trap(world, node, where).strike = lambda: world.kill(node, power=power, why=why)
            world.say(node.name, f"will die {' '.join(where)}{' and lose power' if power else ''}")

    async def do_eio(self, who: str, *where: str) -> None:
        """`eio a at fdatasync of journal`: the next of these operations fails with EIO."""
        node = self.world.node(who)
        Trap(self.world, node, where).fail()
        self.world.say(node.name, f"will have EIO {' '.join(where)}")

    async def do_keep(self, name: str, _down: str) -> None:
        """`keep a down`: the supervisor does not get it to start, until `let a start`."""
        self.world.nodes[name].kept_down = True

    async def do_let(self, name: str, _start: str) -> None:
        node = self.world.nodes[name]
        node.kept_down, node.start_at = False, self.world.loop.time()
        await self.world.until(lambda: node.is_up, PATIENCE_S)

    async def do_pause(self, who: str) -> None:
        self.world.pause(self.world.node(who))

    async def do_resume(self, who: str) -> None:
        self.world.resume(self.world.node(who))
        await asyncio.sleep(_UNDER_WAY_S)

    async def do_supervisor(self, _dies: str, *where: str) -> None:
        """`supervisor dies`, or `supervisor dies after its record`: a promotion's, before the heir is told."""
        supervisor = self.world.supervisor
        if not where:
            supervisor.die()
            return
        tell = supervisor._tell

        async def die(*_: object) -> None:
            supervisor._tell = tell  # type: ignore[method-assign]
            supervisor.die()
            await asyncio.sleep(_FOR_EVER_S)

        supervisor._tell = die  # type: ignore[method-assign]

    # ---- Network, witness, clock

    async def do_cut(self, one: str, *words: str) -> None:
        """`cut a b` both ways, `cut a to b` one way, each also `… for 2 s`; `witness` is a name here."""
        one_way = words[0] == "to"
        other, *span = words[1:] if one_way else words
        seconds = float(span[1]) if span else _FOR_EVER_S
        names = ["supervisor" if name == "witness" else self.world.node(name).name for name in (one, other)]
        self.world.network.cut(names[0], names[1], seconds)
        if not one_way:
            self.world.network.cut(names[1], names[0], seconds)

    async def do_heal(self) -> None:
        self.world.network.heal()

    async def do_witness(self, how: str) -> None:
        """`witness down`, `witness mute` (it hears and records, and its answers are lost), `witness up`."""
        self.world.witness_silent_until = _FOR_EVER_S if how == "down" else 0.0
        self.world.answers_lost_until = _FOR_EVER_S if how == "mute" else 0.0

    async def do_clock(self, who: str, days: str, *_: str) -> None:
        """`clock a +1 day`."""
        self.world.node(who).clock_us += int(days) * DAY_S * 1_000_000

    async def do_replay(self, who: str, *_: str) -> list[str]:
        """`replay a's old messages`: what it sent in sessions that are over arrives again, in the present one."""
        node = self.world.node(who.removesuffix("'s"))
        count = self.streams.replay(node.name)
        await asyncio.sleep(_UNDER_WAY_S)
        return [f"{'some' if count else 'no'} messages of old sessions arrive again"]

    # ---- Disks

    async def do_wipe(self, who: str) -> None:
        node = self.world.node(who)
        self.world.kill(node, why="is killed, and its directory emptied")
        node.disk.wipe()

    async def do_old_copy(self, who: str, *what: str) -> None:
        """`old-copy a take`, and later `old-copy a put back`."""
        node = self.world.node(who)
        copy = self.world.root / f"copy-{node.name}"
        if what == ("take",):
            node.disk.copy_to(copy)
        else:
            self.world.kill(node, why="is killed, and an old copy of its directory put back")
            node.disk.put_back(copy)

    async def do_flip(self, who: str, what: str = "journal") -> None:
        """`flip a`, or `flip a checkpoint`: a bit of the newest file is not what was written."""
        node = self.world.node(who)
        self.world.kill(node, why=f"is killed, and a bit of its {what} flipped")
        if not node.disk.flip({"journal": "journal/*.journal", "checkpoint": "checkpoints/*.checkpoint"}[what]):
            raise ValueError(f"{node.name} has no {what} yet that is long enough to flip a bit of")

    async def do_disk(self, who: str, how: str) -> None:
        """`disk a nearly-full`, `disk a full` (nothing can be written), `disk a room`."""
        self.world.node(who).disk.free = {"nearly-full": NEARLY_FULL_BYTES, "full": 0, "room": PLENTY}[how]
        await asyncio.sleep(1.5)

    async def do_stall(self, who: str, seconds: str, *_: str) -> None:
        """`stall a 5 s`: its disk takes so long."""
        self.world.node(who).stalled_until = self.world.loop.time() + float(seconds)

    # ---- Looking

    async def do_policy(self, _policy: str) -> None:
        """`policy restart`: a primary that dies is started again in its place. Holds for the whole scenario."""

    async def do_fill(self, count: str, account: str) -> list[str]:
        """`fill 70 alice`: so many deposits of 1."""
        for number in range(int(count)):
            name = f"fill-{len(self.clients.history.calls)}-{number}"
            await self.clients.ask(name, Kind.DEPOSIT, account, 1)
        return [f"{count} deposits of 1 are answered"]

    async def do_wait(self, *what: str) -> list[str]:
        """`wait paired`, `wait 2 s`, `wait until b is up`."""
        if what == ("paired",):
            return [] if await self.world.until(self.world.paired, PATIENCE_S) else ["not paired after half a minute"]
        if what[0] == "until":
            node = self.world.node(what[1])
            return [] if await self.world.until(lambda: node.is_up, PATIENCE_S) else [f"{node.name} is not up"]
        await asyncio.sleep(float(what[0]))
        return []

    async def do_status(self) -> list[str]:
        register = self.world.register
        in_sync = "+".join(sorted(register.in_sync))
        lines = [f"witness: epoch {register.epoch}, primary {register.primary}, in sync {in_sync}"]
        return lines + [
            f"{node.name}: {_standing(node, node.name in register.in_sync)}" for node in self.world.nodes.values()
        ]

    async def do_log(self, who: str) -> list[str]:
        node = self.world.node(who)
        if node.node is None:
            return [f"{node.name} is down"]
        journal = node.node._disk.journal
        return _records(journal.blocks()) or ["empty"]

    async def do_times(self, who: str) -> list[str]:
        """Whether any record's time is before that of the record before it."""
        node = self.world.node(who)
        if node.node is None:
            return [f"{node.name} is down"]
        blocks = node.node._disk.journal.blocks()
        times = [one.time_us for block in blocks for one in decode_operations(block.payload)]
        back = any(later < earlier for earlier, later in pairwise(times))
        return [f"the times of {len(times)} records {'go BACK' if back else 'never go back'}"]

    async def do_quarantine(self, who: str) -> list[str]:
        found = copies(self.world.config.node_dir(self.world.node(who).name) / "quarantine")
        return [line for copy in found for line in (f"kept: {copy.why}", *_records(Blocks(copy)))] or ["empty"]


def _standing(node: SimNode, in_sync: bool) -> str:
    running = node.node
    if not isinstance(running, PrimaryNode | BackupNode):
        return f"down: {node.given_up or 'to be started again'}" if not node.alive else "starting"
    status = running.status()
    how = status.mode or status.state if isinstance(running, PrimaryNode) else status.state
    refused = status.counters["refused"] if isinstance(running, BackupNode) else 0
    if how == "in-sync" and not in_sync:
        how = "not in sync and does not know it"
    paused = ", paused" if node.paused else ""
    return (
        f"{status.role}, {how}, epoch {status.epoch}, durable lsn {status.durable_lsn}, applied lsn "
        f"{status.applied_lsn}{', messages refused' if refused else ''}{paused}"
    )


def _balances(told: Transaction) -> str:
    if told.kind is not Kind.TRANSFER:
        return f"balance {told.new_balance}"
    if told.leg is not None:
        return f"legs[{told.leg}] cannot be done"
    accounts = accounts_of(decode_legs(told.extra))
    return ", ".join(f"{account} has {balance}" for account, balance in zip(accounts, told.figures, strict=True))


def _records(blocks: Any) -> list[str]:
    return [
        f"lsn {lsn}, epoch {block.epoch}: {_record(one)}"
        for block in blocks
        for lsn, one in enumerate(decode_operations(block.payload), block.first_lsn)
    ]


def _record(one: Operation) -> str:
    if one.kind in (Kind.DEPOSIT, Kind.WITHDRAW):
        return f"{Kind(one.kind).name} {one.transaction_id} {one.account_id} {one.amount}"
    if one.kind == Kind.TRANSFER:
        moves = ", ".join(f"{moved.source} {moved.target} {moved.amount}" for moved in decode_legs(one.extra))
        return f"TRANSFER {one.transaction_id} {moves}"
    return f"{Kind(one.kind).name} {one.transaction_id}".rstrip()
