"""Where a log stands, and which frame may come next. Pure.

The writer asks before it writes and the reader after it read, so a frame that does not continue the log is
never written and never believed.
"""

from __future__ import annotations

from typing import NamedTuple

from ftwallet.journal.frames import NO_CHAIN, Block, Mark, next_chain


class NotNext(ValueError):
    """A frame that does not continue the log; says what does not fit."""


class Head(NamedTuple):
    """A log as it stands after its record `lsn`: `commit_lsn <= lsn`.

    `ended` lists the epochs before this one as (epoch, last lsn in it), oldest first.
    """

    lsn: int
    chain: bytes
    epoch: int
    commit_lsn: int
    ended: tuple[tuple[int, int], ...]

    def after_block(self, block: Block) -> Head:
        """Where the log stands after the block. Raises NotNext."""
        first_lsn, epoch = block.first_lsn, block.epoch
        if first_lsn != self.lsn + 1:
            raise NotNext(f"it begins with lsn {first_lsn}, and {self.lsn + 1} is next")
        if epoch < self.epoch:
            raise NotNext(f"its epoch {epoch} is older than epoch {self.epoch} of the records before")
        if block.commit_lsn >= first_lsn:
            raise NotNext(f"it has commit_lsn {block.commit_lsn}, which is not before its first lsn {first_lsn}")
        if block.chain != next_chain(self.chain, epoch, first_lsn, block.count, block.payload):
            raise NotNext(f"the hash chain breaks at lsn {first_lsn}")
        new_epoch = epoch != self.epoch and self.lsn > 0
        return Head(
            first_lsn + block.count - 1,
            block.chain,
            epoch,
            block.commit_lsn if block.commit_lsn > self.commit_lsn else self.commit_lsn,
            (*self.ended, (self.epoch, self.lsn)) if new_epoch else self.ended,
        )

    def after_mark(self, mark: Mark) -> Head:
        """Where the log stands after the mark. Raises NotNext."""
        if (mark.first_lsn, mark.epoch, mark.chain) != (self.lsn + 1, self.epoch, self.chain):
            raise NotNext(f"the mark does not belong after lsn {self.lsn}")
        if mark.commit_lsn > self.lsn:
            raise NotNext(f"the mark has commit_lsn {mark.commit_lsn}, and the log ends at {self.lsn}")
        return self._replace(commit_lsn=max(self.commit_lsn, mark.commit_lsn))

    def after(self, frame: Block | Mark) -> Head:
        """Where the log stands after either. Raises NotNext."""
        return self.after_block(frame) if isinstance(frame, Block) else self.after_mark(frame)

    @property
    def history(self) -> list[tuple[int, int]]:
        """The epochs of the log as (epoch, last lsn in it), oldest first."""
        return [*self.ended, (self.epoch, self.lsn)] if self.lsn else []


EMPTY = Head(0, NO_CHAIN, 0, 0, ())
"""The head of a log without records."""
