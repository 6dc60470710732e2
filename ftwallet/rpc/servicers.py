"""The gRPC faces of a node: `PrimaryWallet` and `WalletBackup`. They translate, and decide nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc.aio

from ftwallet.errors import PeerViolation
from ftwallet.ledger.identifiers import account_id_problem, transaction_id_problem
from ftwallet.ledger.money import MAX_STORED, AmountError, format_amount, parse_amount
from ftwallet.ledger.operations import Kind
from ftwallet.ledger.outcomes import sentence
from ftwallet.ledger.rules import Rules
from ftwallet.replication.messages import ToBackup, ToPrimary
from ftwallet.rpc.mapping import from_primary, to_primary
from ftwallet.rpc.v1 import wallet_pb2, wallet_pb2_grpc
from ftwallet.wallet import Answer, Unavailable, Wallet

PRIMARY_SERVICE = "ftwallet.rpc.v1.PrimaryWallet"
BACKUP_SERVICE = "ftwallet.rpc.v1.WalletBackup"

_ADVICE = "retry with the same transaction id, never with a new one"

Context = grpc.aio.ServicerContext[Any, Any]


class PrimaryWalletServicer(wallet_pb2_grpc.PrimaryWalletServicer):
    """Deposit, Withdraw, GetBalance and GetStatus of the primary."""

    def __init__(self, wallet: Wallet, status: Callable[[], wallet_pb2.NodeStatus]) -> None:
        self._wallet = wallet
        self._status = status

    async def Deposit(self, request: wallet_pb2.MoneyRequest, context: Context) -> wallet_pb2.MoneyReply:
        """Put money into an account."""
        return await self._move(Kind.DEPOSIT, request, context)

    async def Withdraw(self, request: wallet_pb2.MoneyRequest, context: Context) -> wallet_pb2.MoneyReply:
        """Take money out of an account."""
        return await self._move(Kind.WITHDRAW, request, context)

    async def GetBalance(self, request: wallet_pb2.BalanceRequest, context: Context) -> wallet_pb2.BalanceReply:
        """Read a balance."""
        await _refuse_bad_account(request.account_id, context)
        if not self._wallet.ready:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The wallet is starting or recovering; retry")
        await self._wallet.bring_in((request.account_id,))
        return _balance_reply(self._wallet, request.account_id)

    async def GetStatus(self, request: wallet_pb2.StatusRequest, context: Context) -> wallet_pb2.NodeStatus:
        """Tell how this node stands."""
        return self._status()

    async def _move(self, kind: Kind, request: wallet_pb2.MoneyRequest, context: Context) -> wallet_pb2.MoneyReply:
        await _refuse_bad_account(request.account_id, context)
        problem = transaction_id_problem(request.transaction_id)
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"transaction_id {problem}")
        rules = self._wallet.rules
        try:
            # An id that was used before the limit was lowered keeps its answer, and a retry must learn it.
            await self._wallet.bring_in(transaction_id=request.transaction_id)
            known = self._wallet.find(request.transaction_id) is not None
            amount = parse_amount(request.amount, rules.exponent, MAX_STORED if known else rules.max_amount)
            answer = await self._wallet.submit(kind, request.account_id, amount, request.transaction_id)
        except AmountError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.detail)
        except Unavailable as unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{unavailable.sentence}; {_ADVICE}")
        if answer.differs:
            sentence = f"Transaction id was used with different parameters: {answer.differs}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)
        return _money_reply(answer, rules.exponent)


async def _refuse_bad_account(account_id: str, context: Context) -> None:
    problem = account_id_problem(account_id)
    if problem:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"account_id {problem}")


def _money_reply(answer: Answer, exponent: int) -> wallet_pb2.MoneyReply:
    done = answer.transaction
    balance = "" if not done.success or done.new_balance is None else format_amount(done.new_balance, exponent)
    return wallet_pb2.MoneyReply(
        success=done.success,
        message=sentence(done, exponent),
        new_balance=balance,
        transaction_id=done.transaction_id,
        replayed=answer.replayed,
        lsn=done.lsn,
        epoch=done.epoch,
    )


class Readable(Protocol):
    """What a balance is read from."""

    @property
    def rules(self) -> Rules:
        """The rules in force."""

    @property
    def applied_lsn(self) -> int:
        """The lsn that reads are made at."""

    def balance(self, account_id: str) -> int | None:
        """Minor units, None when the account is unknown."""


def _balance_reply(source: Readable, account_id: str) -> wallet_pb2.BalanceReply:
    minor, lsn = source.balance(account_id), source.applied_lsn
    if minor is None:
        return wallet_pb2.BalanceReply(success=False, message="Account not found", lsn=lsn)
    text = format_amount(minor, source.rules.exponent)
    return wallet_pb2.BalanceReply(success=True, message="Balance retrieved", balance=text, lsn=lsn)


class BackupPort(Readable, Protocol):
    """The backup as its servicer sees it."""

    async def handle(self, message: ToBackup) -> tuple[list[ToPrimary], bool]:
        """Return the replies, and whether the session is over. Raises PeerViolation."""

    def sent(self, reply: ToPrimary) -> None:
        """A reply has gone out."""

    async def session_ended(self, session: int, reason: str) -> None:
        """The stream of a session is over."""


class WalletBackupServicer(wallet_pb2_grpc.WalletBackupServicer):
    """Replicate, GetBalance and GetStatus of the backup."""

    def __init__(self, backup: BackupPort, status: Callable[[], wallet_pb2.NodeStatus]) -> None:
        self._backup = backup
        self._status = status

    # The stubs know only generators; gRPC takes a coroutine that reads and writes as well.
    async def Replicate(  # type: ignore[override]
        self, request_iterator: AsyncIterator[wallet_pb2.ToBackup], context: Context
    ) -> None:
        """One session; messages are handled one at a time, in order."""
        session, reason = 0, "the primary closed the stream"
        try:
            while (wire := await context.read()) is not grpc.aio.EOF:
                message = from_primary(wire)
                session = message.session
                replies, over = await self._backup.handle(message)
                for reply in replies:
                    await context.write(to_primary(reply))
                    self._backup.sent(reply)
                if over:
                    return
        except PeerViolation as violation:
            reason = str(violation)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)
        finally:
            await self._backup.session_ended(session, reason)

    async def GetBalance(self, request: wallet_pb2.BalanceRequest, context: Context) -> wallet_pb2.BalanceReply:
        """Read a balance of the backup's own ledger."""
        await _refuse_bad_account(request.account_id, context)
        return _balance_reply(self._backup, request.account_id)

    async def GetStatus(self, request: wallet_pb2.StatusRequest, context: Context) -> wallet_pb2.NodeStatus:
        """Tell how this node stands."""
        return self._status()
