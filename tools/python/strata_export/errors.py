# SPDX-License-Identifier: MIT
"""How the program ends: strata's exit codes."""

USAGE, DATA, MISSING, WRITE, STOPPED = 64, 65, 69, 73, 75


class ExportError(Exception):
    """Says why on the way to the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def needed(name: str, what_for: str) -> ExportError:
    return ExportError(MISSING, f"{what_for} needs the Python package {name}, which is not installed: pip install {name}")
