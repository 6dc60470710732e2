"""The REST face of a node: bytes in, bytes out, exactly as the contract of the calls says.

`build_app` in `app.py` makes the ASGI application from a `Wallet`; nothing here knows of journals, peers or processes.
"""
