"""A world without a plan, driven step by step: for stories that are told on purpose.

    with scene() as world:
        world.until_paired()
        call = world.deposit("ann", 100, wait=False)
        world.kill("primary", at="pending")
        world.run_until(lambda: call.answer is not None)
        world.heal()

Nodes are named by name (`a`, `b`) or by the role that they have at that moment (`primary`, `backup`). Every answer is
checked as in any other world; `heal` requires the pair to be paired again and holds the end against all invariants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from ftwallet.ledger.legs import leg
from ftwallet.ledger.operations import Kind
from ftwallet.replication.states import BackupState, PrimaryState
from tests.simulation import plan, runner
from tests.simulation.clients import Call, Clients
from tests.simulation.disk import Loss
from tests.simulation.holds import Asked, Part
from tests.simulation.network import Stream
from tests.simulation.plan import Fault
from tests.simulation.watch import Watch
from tests.simulation.world import SimNode, World, simulated

PATIENCE_S = 60.0

Movement = tuple[Kind, str, int]
Legs = tuple[tuple[str, str, int], ...]


class Scene:
    """One world and its clients; every method lets simulated time pass only as far as it says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients = Clients(world)
        world.graveyard.append(self.clients.process)
        self._number = 0
        self.faults = 0  # that were asked for
        Watch(world)

    # ---- Who stands where

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.world.loop.time()

    @property
    def trace(self) -> list[str]:
        """What has happened, a line each."""
        return self.world.trace

    def node(self, who: str) -> SimNode:
        return self.world.node(who)

    @property
    def mode(self) -> str:
        """Of the primary: paired, solo, or nothing."""
        node = self.world.primary.node
        return node.status().mode if node is not None else ""

    # ---- Clients

    def deposit(
        self, account: str, amount: int, transaction_id: str = "", *, wait: bool = True, gives_up: bool = False
    ) -> Call:
        return self.ask(Kind.DEPOSIT, account, amount, transaction_id, wait=wait, gives_up=gives_up)

    def withdraw(self, account: str, amount: int, transaction_id: str = "", *, wait: bool = True) -> Call:
        return self.ask(Kind.WITHDRAW, account, amount, transaction_id, wait=wait)

    def ask(
        self,
        kind: Kind,
        account: str,
        amount: int,
        transaction_id: str = "",
        *,
        wait: bool = True,
        gives_up: bool = False,
    ) -> Call:
        """Send a transaction until it is answered, or once; without `wait` that goes on while the scene does."""
        self._number += 1
        call = self.clients.begin_call(transaction_id or f"t{self._number}", kind, account, amount)
        return self._asked(call, wait=wait, gives_up=gives_up)

    def transfer(
        self, *legs: tuple[str, str, int], transaction_id: str = "", wait: bool = True, gives_up: bool = False
    ) -> Call:
        """The same with legs, each from, to and how much."""
        self._number += 1
        call = self.clients.begin_transfer(transaction_id or f"t{self._number}", *(leg(*one) for one in legs))
        return self._asked(call, wait=wait, gives_up=gives_up)

    def hold(self, account: str, amount: int, hold_id: str = "", *, expires_in_s: int = 0, wait: bool = True) -> Call:
        return self._of_a_hold(Asked(Kind.HOLD, account, amount, Part(expires_in_s=expires_in_s)), hold_id, wait=wait)

    def capture(
        self, hold_id: str, target: str, amount: int = 0, transaction_id: str = "", *, wait: bool = True
    ) -> Call:
        return self._of_a_hold(Asked(Kind.CAPTURE, "", amount, Part(hold_id, target)), transaction_id, wait=wait)

    def release(self, hold_id: str, *, wait: bool = True) -> Call:
        return self._of_a_hold(Asked(Kind.RELEASE, "", 0, Part(hold_id)), wait=wait)

    def _of_a_hold(self, asked: Asked, transaction_id: str = "", *, wait: bool = True) -> Call:
        self._number += 1
        call = self.clients.begin_hold_call(transaction_id or f"t{self._number}", asked)
        return self._asked(call, wait=wait, gives_up=False)

    def again(self, call: Call) -> None:
        """Ask once more, under the same id, and wait for the answer, which must be the one before."""
        self.run_until(lambda: not call.in_flight, f"nobody asks for {call.transaction_id}")
        tries = call.tries
        self._asked(call, wait=False, gives_up=False)
        self.run_until(lambda: call.tries > tries and not call.in_flight, f"{call.transaction_id} is answered again")

    def _asked(self, call: Call, *, wait: bool, gives_up: bool) -> Call:
        self._of_the_client(self.clients.ask_again(call, gives_up=gives_up))
        if wait:
            self.run_until(lambda: call.answer is not None, f"{call.transaction_id} is answered")
        return call

    def batch(self, *movements: Movement | Legs, all_or_nothing: bool = True, wait: bool = True) -> list[Call]:
        """Send a batch until it is answered; the legs of a transfer stand for it."""
        self._number += 1
        calls = [self._begin(f"t{self._number}-{place}", movement) for place, movement in enumerate(movements)]
        if all_or_nothing:
            self.clients.group(calls)
        self._of_the_client(self.clients.ask_batch(calls, all_or_nothing=all_or_nothing))
        if wait:
            self.run_until(lambda: all(call.answer is not None for call in calls), "the batch is answered")
        return calls

    def _begin(self, transaction_id: str, movement: Movement | Legs) -> Call:
        if isinstance(movement[0], Kind):
            return self.clients.begin_call(transaction_id, *cast("Movement", movement))
        return self.clients.begin_transfer(transaction_id, *(leg(*one) for one in cast("Legs", movement)))

    def read(self, account: str) -> None:
        """Begin a read; the checker holds it against all that was answered before."""
        self._of_the_client(self.clients.read(account))

    def _of_the_client(self, coroutine: object) -> None:
        self.world.loop.create_task(coroutine, context=self.clients.process.context.copy())  # type: ignore[arg-type]

    # ---- Faults

    def kill(self, who: str, *, at: str = "", after: int = 1, power: bool = False, loss: Loss = Loss.ANY) -> None:
        """Now, or `at` a stage of a new transaction; with `power` also `loss` of what was not synced.

        `after`: of the next, or the one after so many.
        """
        self.faults += 1
        if at:
            self.world.arm(self.node(who), at, after)
        else:
            self.world.kill(self.node(who), power=power, loss=loss)
        self._hold()

    def fault(self, kind: str, who: str = "a", number: float = 0.0, word: str = "") -> None:
        """Any of `plan.KINDS`, now."""
        self.faults += 1
        plan.apply(self.world, Fault(self.now, kind, who, number, word))
        self._hold()

    def empty(self, who: str) -> None:
        """Kill it and empty its directory."""
        self.kill(who)
        self.node(who).disk.wipe()

    def pause(self, who: str) -> None:
        self.faults += 1
        self.world.pause(self.node(who))

    def resume(self, who: str) -> None:
        self.world.resume(self.node(who))

    def keep_down(self, who: str) -> None:
        """Nobody starts it again until `let_start` or `heal`."""
        self.node(who).kept_down = True

    def let_start(self, who: str) -> None:
        node = self.node(who)
        node.kept_down, node.start_at = False, self.now

    def hold_back(self) -> Stream:
        """What the primary sends from now on in the present session arrives when it is let through."""
        stream = next(one for one in self.world.network.streams if one.open and one.source == self.world.primary.name)
        stream.hold_back()
        self.faults += 1
        return stream

    def at_state(self, who: str, state: BackupState | PrimaryState, act: Callable[[], None]) -> None:
        """Do something as soon as this node's protocol comes into a state."""
        self.node(who).at_state.setdefault(str(state), []).append(act)

    # ---- Time

    def run(self, seconds: float) -> None:
        self.world.run(self.world.until(lambda: False, seconds))
        self._hold()

    def run_until(
        self, true: Callable[[], bool], what: str = "what was waited for", within_s: float = PATIENCE_S
    ) -> None:
        came = self.world.run(self.world.until(true, within_s))
        self._hold()
        assert came, "\n".join([*self.trace[-40:], f"not within {within_s:g} s: {what}"])

    def until_paired(self) -> None:
        self.run_until(self.world.paired, "paired")

    def heal(self) -> None:
        """Nothing goes wrong any more; the pair must be paired, and all invariants hold."""
        for node in self.world.nodes.values():
            node.kept_down = False
        self.world.run(runner.end_well(self.world, self.clients))
        self._hold()

    def _hold(self) -> None:
        if self.world.violation is not None:
            raise AssertionError("\n".join([*self.trace, str(self.world.violation)]))


@contextmanager
def scene(seed: int = 0, *, on_primary_death: str = "promote") -> Iterator[Scene]:
    """A world in which nothing goes wrong by itself."""
    with simulated(seed, on_primary_death=on_primary_death) as world:
        yield Scene(world)
