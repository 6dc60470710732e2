"""Starts both nodes, watches them, restarts what died, kills what is asked for; keeps the witness and the history.

Signal handlers, death watches, heartbeats and commands only enqueue; one loop (`loop.py`) acts. What to do about a
death is a pure function (`policy.py`). The supervisor starts nodes by command line and talks to them by gRPC alone.
"""
