"""A deterministic simulation of the pair: one seed makes a world, and the world always comes to the same.

    python -m tests.simulation --seeds 2000        many worlds; the first that breaks an invariant is shrunk and told
    python -m tests.simulation --seed 42           one world, with its story
    python -m tests.simulation --seeds 500 --coverage   which moves of the protocol were made, and what went wrong

How it works, from the outside in. `plan.py` makes from the seed a list of faults and times. `runner.py` plays it:
first everything goes wrong that the design promises to survive, then nothing does, and the pair must be paired again
with equal logs. `clients.py` are the people whose money it is, and check every answer; `watch.py` looks ten times a
second at what must hold at every moment, `checker.py` checks the end.
`world.py` puts the shipped nodes on simulated ground: `loop.py` is an event loop whose time is a number and whose
threads are turns, `disk.py` a disk that knows what was synced, `network.py` what lies between the nodes,
`supervisor.py` who starts, promotes and witnesses. Randomness comes from one stream for each source (disks, network,
clients, faults), so that leaving out one fault leaves the others as they were.

`scene.py` drives a world by hand instead, for what is to happen at one exact moment (`test_scenes.py`), and
`breaks/` holds the simulation itself to account: shipped rules taken out, each of which some world must notice.
"""
