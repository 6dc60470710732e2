"""The protocol of the pair: pure objects, events in and effects out. See states.py for every move."""
