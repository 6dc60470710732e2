"""What FT-Wallet is measured against: the same wallet on FastAPI, asyncpg and PostgreSQL with a synchronous standby."""
