"""What the faces of a node (REST and gRPC) ask of it: the node implements `Wallet`, they know nothing else of it."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ftwallet.errors import ClientError
from ftwallet.ledger.operations import Kind
from ftwallet.ledger.rules import Rules

if TYPE_CHECKING:
    from ftwallet.ledger.holds import Hold
    from ftwallet.ledger.outcomes import Outcome, Transaction

MAX_BATCH_OPERATIONS: Final = 8_192
"""Most operations of one batch."""

Movement = tuple[Kind, str, int, str, bytes]
"""A movement as it is asked: kind, account id, amount in minor units, transaction id, and the rest of its `Body`."""


class Answer(NamedTuple):
    """The recorded transaction behind one request.

    `replayed`: the id had been answered (or was under way) before this request. `differs`: the first field in which
    this request differs from what the id was used for; None when it is the same. `mode`: "paired" or "solo", by the
    in-sync set at the time of the answer.
    """

    transaction: Transaction
    replayed: bool
    mode: str
    differs: str | None = None


class BatchAnswer(NamedTuple):
    """The outcomes of a batch, by the place of each movement in what was submitted.

    An `Outcome` for a deposit or withdrawal that was done now; an `Answer` for what is of another kind, or was asked
    before, which it says. `lsns` has the lsn of each.
    `epoch` and `mode` are those of now; `lsn` is the newest of all.
    """

    results: Sequence[Outcome | Answer]
    lsns: Sequence[int]
    lsn: int
    epoch: int
    mode: str


class BatchMismatch(ClientError):
    """An all_or_nothing batch that cannot be one: nothing was begun.

    `place` is that of a movement whose id was used before: for another body, which differs in `differs`; or, where
    `differs` is None, not in one batch with the others.
    """

    def __init__(self, place: int, transaction_id: str, differs: str | None = None) -> None:
        super().__init__(transaction_id)
        self.place = place
        self.transaction_id = transaction_id
        self.differs = differs


class Unavailable(Exception):
    """No outcome is known: `in_doubt` when the operation may have happened, else it surely was not begun.

    `sentence` says what is wrong; retrying with the same transaction id is safe in either case, after `retry_after_s`.
    """

    def __init__(self, sentence: str, *, in_doubt: bool, retry_after_s: int = 1) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.in_doubt = in_doubt
        self.retry_after_s = retry_after_s


class Wallet(Protocol):
    """A node as its clients see it. All amounts are integer minor units."""

    @property
    def rules(self) -> Rules:
        """The currency's decimals, and the limits."""

    @property
    def ready(self) -> bool:
        """Whether this node is the primary and serves."""

    @property
    def mode(self) -> str:
        """Either "paired" or "solo"; empty while not serving."""

    @property
    def epoch(self) -> int:
        """The epoch that this node leads in."""

    @property
    def applied_lsn(self) -> int:
        """The lsn that reads are made at."""

    def submit(
        self, kind: Kind, account_id: str, amount: int, transaction_id: str, extra: bytes = b""
    ) -> Awaitable[Answer]:
        """Begin, join or replay a transaction, which asks this `Body`.

        Raises `Unavailable`, at once or from the awaitable, within the request time-out.
        """

    def submit_batch(
        self, slices: Iterable[Sequence[Movement]], count: int, *, all_or_nothing: bool
    ) -> Awaitable[BatchAnswer]:
        """Begin, join or replay each of at most `count` movements, which are drawn from `slices` bit by bit.

        `all_or_nothing`: either all of them take effect, or none.
        Raises `Unavailable` within the request time-out when the outcome of any is not known, `BatchMismatch`.
        """

    async def bring_in(self, account_ids: Sequence[str] = (), transaction_id: str = "", hold_id: str = "") -> None:
        """Have what is to be asked next in memory, without holding up anything else while the disk is read."""

    def balance(self, account_id: str) -> int | None:
        """Balance of an account, None when it is unknown; what is on hold stands in an account of its own (`HELD`)."""

    def hold(self, hold_id: str) -> Hold | None:
        """A hold as it stands; None when none was made under this id."""

    def find(self, transaction_id: str) -> Transaction | None:
        """The latest attempt under an id, also while it is PENDING; None when it is unknown."""


class NoWallet:
    """A wallet that is not there yet, or not any more: nobody is served."""

    rules = Rules()
    ready = False
    mode = ""
    epoch = 0
    applied_lsn = 0

    def submit(
        self, kind: Kind, account_id: str, amount: int, transaction_id: str, extra: bytes = b""
    ) -> Awaitable[Answer]:
        """Raise Unavailable."""
        raise Unavailable("The wallet is starting or recovering", in_doubt=True)

    def submit_batch(
        self, slices: Iterable[Sequence[Movement]], count: int, *, all_or_nothing: bool
    ) -> Awaitable[BatchAnswer]:
        """Raise Unavailable."""
        raise Unavailable("The wallet is starting or recovering", in_doubt=True)

    async def bring_in(self, account_ids: Sequence[str] = (), transaction_id: str = "", hold_id: str = "") -> None:
        """Nothing is known."""

    def balance(self, account_id: str) -> int | None:
        """No account is known."""
        return None

    def hold(self, hold_id: str) -> Hold | None:
        """No hold is known."""
        return None

    def find(self, transaction_id: str) -> Transaction | None:
        """No transaction is known."""
        return None


NO_WALLET: Final = NoWallet()
