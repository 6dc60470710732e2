"""The write-ahead log of a node, and what stands beside it on disk.

It knows records and lsns, nothing of money.
"""
