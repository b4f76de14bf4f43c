# SPDX-License-Identifier: MIT
"""Where the ledger of a run directory is."""

import json
import pathlib


def find_ledger(folder):
    """The ledger's file, and whether it is a copy that nobody writes to. With run.ledger a launch has it in a folder of its own
    machine, and puts a copy into the run directory when it ends."""
    place, copy = _told(folder), folder / "ledger.sqlite"
    if place is None:
        return copy, False
    if not (place["copied"] and copy.exists()):
        there = pathlib.Path(place["path"])
        try:
            own = _told(there)
        except (OSError, ValueError):  # another machine's folder of this name is none of ours
            own = None
        if own and place["token"] in (own["token"], own["previous"]):
            return there / "ledger.sqlite", False
        if not copy.exists():
            raise FileNotFoundError(f"{folder} has no copy of its ledger: launch {place['launch']} had it on "
                                    f"{place['host']}, in {place['path']}; look from there")
    return copy, True


def _told(folder):
    """What ledger.json of a folder says, or None."""
    try:
        place = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(place, dict) or place.get("format") != 1:
        raise ValueError(f"{folder / 'ledger.json'} is damaged or of a later version")
    return place
