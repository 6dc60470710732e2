"""FT-Wallet: a wallet ledger that loses no money when anything dies."""

__version__ = "0.1.0"
