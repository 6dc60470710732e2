from ftwallet.replication.register import Proposal, ProposalKind, Register, decide

PAIR = Register("c", 7, "a", {"a": "a0", "b": "b0"}, {"a": 1})


def test_a_start_raises_the_epoch_and_counts_the_boot() -> None:
    decision = decide(PAIR, Proposal(ProposalKind.START, "a", "a0", 7, boot=2))
    assert decision.granted
    assert decision.register == Register("c", 8, "a", {"a": "a0", "b": "b0"}, {"a": 2})


def test_a_backups_boot_is_counted_in_the_same_epoch() -> None:
    decision = decide(PAIR, Proposal(ProposalKind.BOOT, "b", "other", 0, boot=1))
    assert decision.register == Register("c", 7, "a", {"a": "a0", "b": "b0"}, {"a": 1, "b": 1})


def test_shrink_and_grow_name_incarnations() -> None:
    alone = decide(PAIR, Proposal(ProposalKind.SHRINK, "a", "a0", 7)).register
    assert (alone.epoch, alone.in_sync) == (8, {"a": "a0"})
    grown = decide(alone, Proposal(ProposalKind.GROW, "a", "a0", 8, "b", "b1")).register
    assert (grown.epoch, grown.in_sync) == (9, {"a": "a0", "b": "b1"})


def test_a_proposal_of_another_epoch_changes_nothing() -> None:
    for epoch in (6, 8):
        decision = decide(PAIR, Proposal(ProposalKind.SHRINK, "a", "a0", epoch))
        assert not decision.granted
        assert decision.register is PAIR
        assert "epoch 7" in decision.reason


def test_only_the_primary_may_ask_and_only_with_its_own_incarnation() -> None:
    assert not decide(PAIR, Proposal(ProposalKind.SHRINK, "b", "b0", 7)).granted
    assert not decide(PAIR, Proposal(ProposalKind.START, "a", "emptied", 7)).granted


def test_a_promotion_takes_a_backup_that_is_in_sync_and_leaves_it_alone() -> None:
    promoted = decide(PAIR, Proposal(ProposalKind.PROMOTE, "b", "b0", 7)).register
    assert (promoted.epoch, promoted.primary, promoted.in_sync) == (8, "b", {"b": "b0"})
    assert not decide(PAIR, Proposal(ProposalKind.PROMOTE, "b", "b1", 7)).granted


def test_a_start_that_is_asked_twice_is_counted_once() -> None:
    asked = Proposal(ProposalKind.BOOT, "b", "b0", 7, boot=4)
    once = decide(PAIR, asked).register
    assert decide(once, asked).register.boots == {"a": 1, "b": 4}
    late = Proposal(ProposalKind.BOOT, "b", "b0", 7, boot=3)
    assert decide(once, late).register.boots == {"a": 1, "b": 4}
