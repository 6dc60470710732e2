"""What every command of the supervisor answers with: one JSON document, with the number of its schema."""

from __future__ import annotations

from typing import Any

SCHEMA = 1

Document = dict[str, Any]
