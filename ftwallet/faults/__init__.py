"""Faults on purpose: named crash points on a transaction's way, and the one that kills its own process there."""
