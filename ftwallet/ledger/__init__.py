"""The rules of money: a pure, deterministic state machine.

Nothing in this package reads a clock, a file, a socket or a random number, so that two nodes that apply the
same blocks hold the same balances, and the simulator and a node run the very same code.
"""
