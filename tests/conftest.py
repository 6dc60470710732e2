"""What all tests share: no property has a deadline, or a busy machine would refuse what is right."""

from __future__ import annotations

from hypothesis import settings

# Made from the profile in force, which is another where CI is set.
settings.register_profile("without a deadline", settings(), deadline=None)
settings.load_profile("without a deadline")
