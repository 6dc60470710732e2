"""The ledger's state on disk, as of one lsn, behind the ledger's `State`: memory holds what is in use.

The journal stays the truth. What has changed since the lsn that the store stands at is in memory, and is written
behind, all of it together or nothing; a start goes on from there and replays the rest. So neither a start's time nor
the memory of a node grows with the number of past transactions.
"""
