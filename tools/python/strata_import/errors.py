# SPDX-License-Identifier: MIT
"""What can go wrong: with one row, which is listed, or with the whole import, which ends it."""

from __future__ import annotations

USAGE, DATA, MISSING, WRITE, BUSY = 64, 65, 69, 73, 75  # strata's exit codes


class Fault(Exception):
    """What is wrong with one row."""


class Failure(Exception):
    """Ends the import with an exit code; nothing was imported."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code


def missing(library: str, purpose: str) -> Failure:
    return Failure(MISSING, f"{purpose} needs the Python library {library}: pip install {library}")
