"""`kill`: carries out (or arms) a death and tells, step by step, what recovery made of it.

The steps are documents with a `sentence` for people; the last one, `step: "story"`, holds everything. It waits on what
the one loop sees and asks that loop to act; it never touches a process itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ftwallet.errors import Refused
from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from ftwallet.ledger.money import format_amount
from ftwallet.rpc.v1.control_pb2 import ArmRequest, DisarmRequest
from ftwallet.supervisor import traces
from ftwallet.supervisor.documents import http_url
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.order import Order
from ftwallet.supervisor.policy import describe, signal_name
from ftwallet.supervisor.probe import ACCOUNT, Answered, Probe
from ftwallet.supervisor.roles import PRIMARY, partner, resolve
from ftwallet.supervisor.schema import SCHEMA, Document
from ftwallet.supervisor.slots import DeathNote, Ending, Phase, Run

_ARM_DEADLINE_S = 2.0
_DIGESTS_WITHIN_S = 3.0
_PROBE_WITHIN_S = 10.0
_PROMOTED_WITHIN_S = 10.0
_CONNECT_SLACK_S = 1.0


class Story:
    """One `kill`, from the order to its end."""

    def __init__(self, supervisor: Supervisor, order: Order) -> None:
        self._supervisor = supervisor
        self._order = order
        self._slot = supervisor.slots[resolve(order.role, supervisor.register.primary)]
        self._partner = supervisor.slots[partner(self._slot.node)]
        self._run = self._running()
        self._victim = f"node {self._slot.node} ({self._run.role})"
        self._before: dict[str, dict[str, int]] = {}
        self._outages = supervisor.service.outages
        self._armed = False
        self._probe: Probe | None = None
        self._probing: asyncio.Task[Answered] | None = None

    async def tell(self) -> AsyncIterator[Document]:
        """Carry it out; raises Refused when it cannot be, or did not happen in time (it is disarmed then)."""
        try:
            yield await self._begin()
            if self._order.no_wait:
                return
            if self._order.stage:
                yield self._step("waiting", self._start_probe() if self._order.probe else self._how_to_send())
            ending = await self._death()
            self._before = self._lsns()
            transaction_id = ending.crash.transaction_id if ending.crash else ""
            held = await self._who_held(transaction_id, ending.epoch)
            yield self._step("died", self._death_sentence(ending), transaction_id=transaction_id)
            async for step in self._recovery(ending, transaction_id, held):
                yield step
        finally:
            if self._probe is not None:
                self._probe.give_up()
            if self._armed and not self._order.no_wait:  # the caller has gone: nobody waits for this death any more
                await self._call_off()

    # ---- Before the death

    def _running(self) -> Run:
        slot = self._slot
        if slot.run is None:
            state = "failed" if slot.phase is Phase.FAILED else "down"
            why = f" ({slot.reason})" if slot.reason else ""
            raise Refused(
                f"node {slot.node} is {state} and has no process to kill{why}: "
                f"`ftwallet-run restart {slot.node}` starts it"
            )
        return slot.run

    async def _begin(self) -> Document:
        order = self._order
        if not order.stage:
            sent = await self._supervisor.ask(
                lambda: self._supervisor.fleet.signal(self._slot, order.signal, DeathNote.KILL)
            )
            if not sent:
                raise Refused(f"{self._victim} ended before it could be killed: see `ftwallet-run events`")
            return self._step(
                "killed", f"Sent {signal_name(order.signal)} to {self._victim}, pid {self._run.child.pid}"
            )
        await self._arm(Stage(order.stage))
        nth = "the next new transaction" if order.after == 1 else f"new transaction number {order.after} from now"
        sentence = (
            f"Armed {self._victim}, pid {self._run.child.pid}: {signal_name(order.signal)} at {order.stage} of {nth}"
        )
        if order.stage == Stage.SYNCED and not self._supervisor.paired:
            sentence += "; the pair is not paired, and in solo this stage is never reached"
        self._supervisor.events.record("armed", sentence, self._slot.node, stage=order.stage, after=order.after)
        return self._step("armed", sentence)

    async def _arm(self, stage: Stage) -> None:
        stages = PRIMARY_STAGES if self._run.role == PRIMARY else BACKUP_STAGES
        if stage not in stages:
            raise Refused(f"a {self._run.role} has no stage {stage}: its stages are {', '.join(stages)}")
        request = ArmRequest(stage=stage, after=self._order.after, signal=self._order.signal)
        try:
            reply = await self._run.control.Arm(request, timeout=_ARM_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{self._victim} could not be armed: {_no_answer(error)}") from None
        if not reply.armed:
            raise Refused(f"{self._victim} could not be armed: {reply.reason}")
        self._armed = True

    def _start_probe(self) -> str:
        config = self._supervisor.config
        amount = format_amount(1, config.currency_exponent)
        probes = [
            Probe(config.http_host, config.http_port, amount, config.request_timeout_s + _CONNECT_SLACK_S)
            for _ in range(self._order.after)
        ]
        self._probe = probes[-1]
        self._probing = asyncio.ensure_future(asyncio.to_thread(_send_all, probes))
        return f"The probe deposits {amount} to account {ACCOUNT} as {self._probe.transaction_id}"

    def _how_to_send(self) -> str:
        url = http_url(self._supervisor.config)
        body = '{"account_id":"user123","amount":10.00,"transaction_id":"try-\'$(date +%s)\'"}'
        return (
            f"Waiting up to {self._order.timeout_s:g} s for a new transaction; send one, or use --probe: "
            f"curl -X POST {url}/deposit -H 'content-type: application/json' -d '{body}'"
        )

    async def _death(self) -> Ending:
        slot, number = self._slot, self._run.number

        def died() -> bool:
            return slot.ending is not None and slot.ending.number >= number

        if not await self._supervisor.until(died, self._order.timeout_s):
            await self._call_off()
            if not died():  # it may have died while it was being disarmed
                raise Refused(self._nothing_happened())
        self._armed = False
        if slot.ending is None:
            raise Refused(f"{self._victim} is gone without a trace")
        return slot.ending

    async def _call_off(self) -> None:
        if not self._armed:
            return
        self._armed = False
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._run.control.Disarm(DisarmRequest(), timeout=_ARM_DEADLINE_S)
        self._supervisor.events.record("disarmed", f"Disarmed {self._victim}: nothing came in time", self._slot.node)

    def _nothing_happened(self) -> str:
        within = f"within {self._order.timeout_s:g} s"
        if not self._order.stage:
            return f"{self._victim} was sent {signal_name(self._order.signal)} and did not end {within}"
        return (
            f"no new transaction reached {self._order.stage} on {self._victim} {within}, so it was disarmed: "
            "send one in another terminal, or use --probe"
        )

    # ---- After it

    async def _who_held(self, transaction_id: str, epoch: int) -> dict[str, bool]:
        """Whose disk had the record: the partner is asked, the dead node's journal is looked at before it starts."""
        if not transaction_id:
            return {}
        node_dir = self._supervisor.config.node_dir(self._slot.node)
        mentioned = asyncio.to_thread(traces.journal_mentions, node_dir, transaction_id)
        partner_had, dead_had = await asyncio.gather(self._partner_held(transaction_id, epoch), mentioned)
        return {self._slot.node: dead_had, self._partner.node: partner_had}

    async def _partner_held(self, transaction_id: str, epoch: int) -> bool:
        # A partner that takes over cannot be asked meanwhile; what a retry has brought it since has a newer epoch.
        await self._supervisor.until(lambda: not self._supervisor.changing_roles, _PROMOTED_WITHIN_S)
        found = await traces.find(self._partner, transaction_id)
        return found is not None and 0 < found["epoch"] <= epoch

    async def _recovery(self, ending: Ending, transaction_id: str, held: dict[str, bool]) -> AsyncIterator[Document]:
        supervisor, slot = self._supervisor, self._slot
        limit_s = supervisor.config.start_timeout_s + supervisor.config.settle_timeout_s
        if held:
            yield self._step("held", _held_sentence(transaction_id, held))
        await supervisor.until(lambda: slot.up or slot.phase is Phase.FAILED, limit_s)
        if not slot.up or slot.run is None:
            raise Refused(f"{self._victim} did not come back: {slot.reason or 'see `ftwallet-run events`'}")
        restart_s = time.monotonic() - ending.at
        took_over = self._run.role == PRIMARY and supervisor.register.primary != slot.node
        words = f"Node {self._partner.node} has taken over as primary; node" if took_over else "Node"
        yield self._step("restarted", f"{words} {slot.node} is up again as {slot.run.role}, pid {slot.run.child.pid}")
        answered = await self._probe_answer()
        await supervisor.until(lambda: supervisor.paired, limit_s)
        yield await self._whole(ending, transaction_id, held, restart_s, answered)

    async def _probe_answer(self) -> Answered | None:
        if self._probing is None or self._probe is None:
            return None
        done, _ = await asyncio.wait([self._probing], timeout=_PROBE_WITHIN_S)
        if not done:
            self._probe.give_up()
        return await self._probing

    async def _whole(
        self,
        ending: Ending,
        transaction_id: str,
        held: dict[str, bool],
        restart_s: float,
        answered: Answered | None,
    ) -> Document:
        fates = {
            slot.node: await traces.find(slot, transaction_id) for slot in (self._slot, self._partner) if transaction_id
        }
        lsn, equal = await self._digests(max((fate["lsn"] or 0 for fate in fates.values() if fate), default=0))
        supervisor, service = self._supervisor, self._supervisor.service
        gap_s = service.last_gap_s if service.outages > self._outages else 0.0
        document = {
            "node": self._slot.node,
            "role": self._run.role,
            "stage": self._order.stage or None,
            "signal": signal_name(self._order.signal),
            "death": describe(ending.code),
            "transaction_id": transaction_id or None,
            "held_when_it_died": held,
            "before": self._before,
            "after": self._lsns(),
            "restart_s": round(restart_s, 3),
            "gap_s": round(gap_s, 3),
            "after_recovery": after_recovery(fates.get(supervisor.register.primary), held, ending.epoch)
            if fates
            else None,
            "transaction": fates,
            "digests": {"lsn": lsn, "equal": equal},
            "mode": self._supervisor.mode or None,
            "probe": _probe_document(answered),
        }
        return self._step("story", "", ok=equal is not False and self._supervisor.ready, **document)

    async def _digests(self, from_lsn: int) -> tuple[int | None, bool | None]:
        """Return the newest lsn, not before `from_lsn`, at which both nodes were seen, and whether they were equal."""

        def common() -> list[int]:
            both = self._slot.samples.keys() & self._partner.samples.keys()
            return sorted(lsn for lsn in both if lsn >= from_lsn)

        await self._supervisor.until(lambda: bool(common()), _DIGESTS_WITHIN_S)
        lsns = common()
        if not lsns:
            return None, None
        return lsns[-1], all(self._slot.samples[lsn] == self._partner.samples[lsn] for lsn in lsns)

    def _death_sentence(self, ending: Ending) -> str:
        crash = ending.crash
        where = f" at {crash.stage} of transaction {crash.transaction_id}" if crash else ""
        unarmed = "; this was not the armed crash" if self._order.stage and crash is None else ""
        words = f": {ending.sentence}" if ending.sentence else ""
        return f"{self._victim.capitalize()} died: {describe(ending.code)}{where}{unarmed}{words}"

    def _lsns(self) -> dict[str, dict[str, int]]:
        return {
            slot.node: {"durable_lsn": slot.last.durable_lsn, "commit_lsn": slot.last.commit_lsn}
            for slot in self._supervisor.slots.values()
            if slot.last is not None
        }

    def _step(self, step: str, sentence: str, **fields: Any) -> Document:
        return {"schema": SCHEMA, "step": step, "sentence": sentence, **fields}


def _send_all(probes: list[Probe]) -> Answered:
    """Send the probes one after the other; the last one's id is the one that a crash after N transactions hits."""
    for probe in probes[:-1]:
        probe.send()
    return probes[-1].send()


def _no_answer(error: grpc.aio.AioRpcError) -> str:
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return "its process is just starting or ending; try again when `ftwallet-run status` says that it is up"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "it does not answer; `ftwallet-run status` says whether it is paused"
    return f"it did not answer ({error.details()})"


def _held_sentence(transaction_id: str, held: dict[str, bool]) -> str:
    having = [f"node {node}" for node, has in held.items() if has]
    if len(having) == len(held):
        return f"At that moment both nodes had a record of {transaction_id}"
    lacking = " and ".join(f"node {node}" for node, has in held.items() if not has)
    words = f"{having[0]} had a record of {transaction_id}, {lacking} had none" if having else ""
    return f"At that moment {words or f'neither node had a record of {transaction_id}'}"


def after_recovery(fate: Document | None, held: dict[str, bool], epoch: int) -> str:
    """Return what recovery made of a transaction, from what the primary says of it now.

    A retry may have come first. But what was rolled forward keeps the epoch in which it was written, at most `epoch`,
    and what a retry has executed has a newer one: then the first attempt had been rolled back, or was on no disk.
    """
    if fate is not None and (fate["status"] != "COMMITTED" or fate["epoch"] <= epoch):
        return str(fate["status"])
    return "ROLLED_BACK" if fate is not None and any(held.values()) else "UNKNOWN"


def _probe_document(answered: Answered | None) -> Document | None:
    if answered is None:
        return None
    return answered._asdict() | {"waited_s": round(answered.waited_s, 3)}
