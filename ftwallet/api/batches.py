"""The call of a batch: decode, submit, and tell what became of each operation, a slice at a time.

Each operation's answer is, to the byte, what the single call would answer. The full reply has all of them, in order;
the compact one only those that are not done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

from ftwallet.api import problems
from ftwallet.api.answers import done_body, reply_of
from ftwallet.api.batch_body import BatchBody, OperationError, decode_batch
from ftwallet.api.decode import Malformed
from ftwallet.api.reply import JSON, Header, Reply, framed, standing
from ftwallet.ledger.operations import Body
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, message, outcome_of
from ftwallet.wallet import Answer, BatchAnswer, BatchMismatch, Movement, Unavailable, Wallet

_TOLD_AT_ONCE: Final = 256
_OK: Final = OutcomeCode.OK


class _Told(NamedTuple):
    """What becomes of an operation in the reply; `lsn` is 0 where it has no record."""

    place: int
    reply: Reply
    lsn: int
    replayed: bool


async def answer_batch(wallet: Wallet, body: bytes) -> Reply:
    """Decode, submit and answer one batch."""
    try:
        batch = decode_batch(body)
    except Malformed as error:
        return problems.malformed(error)
    slices = batch.slices(wallet.rules, lambda transaction_id: wallet.find(transaction_id) is not None)
    if batch.all_or_nothing:
        slices = await _drawn(slices)
        if batch.errors:
            return problems.batch_malformed(batch.errors)
    try:
        answer = await wallet.submit_batch(slices, batch.count, all_or_nothing=batch.all_or_nothing)
    except Unavailable as error:
        return problems.batch_unavailable(error)
    except BatchMismatch as error:
        return problems.batch_mismatch(batch.indices[error.place], error)
    return await _Batch(batch, answer, wallet).reply()


async def _drawn(slices: Iterator[list[Movement]]) -> Iterator[list[Movement]]:
    """All of them at once: nothing is begun before the last is known to be well-formed."""
    drawn = []
    for movements in slices:
        drawn.append(movements)
        await asyncio.sleep(0)
    return iter(drawn)


class _Batch:
    """One batch and its answer, put into words."""

    def __init__(self, body: BatchBody, answer: BatchAnswer, wallet: Wallet) -> None:
        self._body = body
        self._answer = answer
        self._exponent = wallet.rules.exponent
        self._lsn = answer.lsn or wallet.applied_lsn

    async def reply(self) -> Reply:
        """The whole reply."""
        results = self._answer.results
        answers = [one for one in results if isinstance(one, Answer)]
        replayed = sum(one.replayed for one in answers)
        where = self._where(all_replayed=replayed == len(results) > 0)
        if answers:
            done = sum(_is_done(one) for one in results)
        else:
            done = sum([one.code is _OK for one in results if not isinstance(one, Answer)])
        if self._body.all_or_nothing and done < len(results):
            return self._refused(where)
        name = b"exceptions" if self._body.compact else b"results"
        told = [] if self._body.compact and done == self._body.count else [one async for one in self._told()]
        content = b'{"success":%b,"operations":%d,"done":%d,"replayed":%d,"%b":[%b]}' % (
            b"true" if done == self._body.count else b"false",
            self._body.count,
            done,
            replayed,
            name,
            b",".join(told),
        )
        return framed(200, JSON, content, where)

    def _where(self, *, all_replayed: bool) -> list[Header]:
        return standing(self._lsn, self._answer.epoch, self._answer.mode, all_replayed)

    def _refused(self, where: list[Header]) -> Reply:
        """The first refusal that was not for another one's sake; all results are refusals."""
        outcomes = [_outcome(one) for one in self._answer.results]
        blamed = (place for place, one in enumerate(outcomes) if one.code is not OutcomeCode.GROUP_REFUSED)
        place = next(blamed, 0)
        kind, account_id, amount, transaction_id, extra = self._body.movements[place]
        sentence = message(Body(kind, account_id, amount, extra), outcomes[place], self._exponent)
        return problems.batch_refused(self._body.indices[place], transaction_id, sentence, where)

    async def _told(self) -> AsyncIterator[bytes]:
        for number, one in enumerate(self._each(), 1):
            yield _told(one, with_index=self._body.compact)
            if number % _TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _each(self) -> Iterator[_Told]:
        """Every operation in order; those that are done only if the reply is full."""
        errors, compact = self._body.errors, self._body.compact
        each = zip(self._body.movements, self._answer.results, self._answer.lsns, strict=True)
        for index in range(self._body.count):
            if index in errors:
                yield _Told(index, _error(errors[index]), 0, replayed=False)
                continue
            movement, result, lsn = next(each)
            if not compact or not _is_done(result):
                yield self._movement(index, movement, result, lsn)

    def _movement(self, index: int, movement: Movement, result: Outcome | Answer, lsn: int) -> _Told:
        kind, account_id, amount, transaction_id, _ = movement
        if isinstance(result, Answer):
            reply = reply_of(result, self._exponent)
            if result.differs is not None:
                return _Told(index, reply, 0, replayed=False)
            return _Told(index, reply, lsn, result.replayed)
        sentence = message(Body(kind, account_id, amount), result, self._exponent)
        if result.code is _OK:
            reply = 200, [], done_body(sentence, result.new_balance, transaction_id, self._exponent)
        else:
            reply = problems.problem(problems.PROBLEM_OF_OUTCOME[result.code], sentence, transaction_id=transaction_id)
        return _Told(index, reply, lsn, replayed=False)


def _outcome(result: Outcome | Answer) -> Outcome:
    if not isinstance(result, Answer):
        return result
    return outcome_of(result.transaction)


def _is_done(result: Outcome | Answer) -> bool:
    if isinstance(result, Answer):
        return result.differs is None and result.transaction.code is _OK
    return result.code is _OK


def _error(error: OperationError) -> Reply:
    return problems.malformed(error) if isinstance(error, Malformed) else problems.amount_refused(error)


def _told(one: _Told, *, with_index: bool) -> bytes:
    status, _, answer = one.reply
    return b'{%b"status":%d,"lsn":%b,"replayed":%b,"answer":%b}' % (
        b'"index":%d,' % one.place if with_index else b"",
        status,
        b"%d" % one.lsn if one.lsn else b"null",
        b"true" if one.replayed else b"false",
        answer,
    )
