"""The write-ahead log of a node, and what stands beside it on disk.

It knows records and lsns, nothing of money.
"""

from ftwallet.journal.damage import Corruption
from ftwallet.journal.frames import NO_CHAIN, Block, decode_block, encode_block
from ftwallet.journal.journal import Journal
from ftwallet.journal.recovery import TornTail

__all__ = ["NO_CHAIN", "Block", "Corruption", "Journal", "TornTail", "decode_block", "encode_block"]
