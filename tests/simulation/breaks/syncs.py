"""Syncs left out, each of which some loss of power is about."""

from __future__ import annotations

from ftwallet.journal import checkpoints, quarantine, recovery
from ftwallet.journal import journal as journal_module
from ftwallet.journal.identity import Identity
from ftwallet.journal.journal import Journal
from ftwallet.node import receiving
from ftwallet.node.rollbacks import Rollbacks
from ftwallet.witness.file import FileWitness
from tests.simulation import moments_disk as disk
from tests.simulation.breaks.breaking import Break, without

SYNCS = (
    Break(
        "unsynced-record",
        "the witness's record is not synced",
        without("fdatasync", (FileWitness, "_write")),
        moment=disk.power_fails_and_the_record_was_just_written,
    ),
    Break("unsynced-append", "a block is not synced", without("fdatasync", (Journal, "_write"))),
    Break(
        "unsynced-segment",
        "a new segment's header is not synced",
        without("fdatasync", (journal_module, "create_segment"), (recovery, "create_segment")),
        moment=disk.power_fails_when_a_segment_is_named,
    ),
    Break(
        "unsynced-name",
        "a new segment's name is not synced",
        without("fsync_directory", (journal_module, "create_segment"), (recovery, "create_segment")),
        ("power",),
    ),
    Break(
        "unsynced-identity",
        "identity.json is not synced",
        without("fdatasync", (Identity, "_save")),
        moment=disk.power_fails_and_the_identity_was_just_written,
    ),
    Break(
        "unsynced-incarnation",
        "identity.json's name is not synced",
        without("fsync_directory", (Identity, "_save")),
        moment=disk.power_fails_and_a_name_is_lost,
    ),
    Break(
        "unsynced-checkpoint",
        "a checkpoint is not synced",
        without("fdatasync", (checkpoints, "_write_draft")),
        moment=disk.power_fails_after_two_checkpoints,
    ),
    Break(
        "unsynced-cut",
        "a cut is not synced",
        without("fdatasync", (recovery, "truncate_file")),
        moment=disk.power_fails_in_the_block_after_a_cut,
    ),
    Break(
        "unsynced-removal",
        "removed segments come back",
        without("fsync_directory", (Journal, "_remove_after")),
        moment=disk.power_fails_in_a_cut_of_two_segments,
    ),
    Break(
        "unsynced-start",
        "a start does not sync what it found",
        without("fdatasync", (recovery, "_make_durable")),
        moment=disk.killed_before_a_sync,
    ),
    Break(
        "unsynced-part",
        "slices of a checkpoint are not synced",
        without("fdatasync", (receiving, "_write")),
        moment=disk.power_fails_when_a_state_sync_is_installed,
    ),
    Break(
        "unsynced-rollbacks",
        "rollbacks are not synced",
        without("fdatasync", (Rollbacks, "_write")),
        moment=disk.power_fails_after_a_cut,
    ),
    Break(
        "unsynced-copy",
        "the copy of what is cut is not synced",
        without("fdatasync", (quarantine, "_copy")),
        moment=disk.power_fails_after_a_cut,
    ),
)
