"""The tensors that family_tensors.py lists for published models hold as many numbers as transformers' models do."""
import json
import sys

import pytest

from support import SOURCE

sys.path.insert(0, str(SOURCE / "tools"))
import family_tensors  # noqa: E402

FOLDER = SOURCE / "tests" / "model"
COUNTS = json.loads((FOLDER / "parameters.json").read_text())["parameters"]
TOWERS = ("vision", "visual", "multi_modal")


def test_every_config_is_counted():
    assert sorted(COUNTS) == sorted(path.stem for path in (FOLDER / "configs").glob("*.json"))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_listed_tensors_are_all(name):
    config = json.loads((FOLDER / "configs" / f"{name}.json").read_text())
    listed = family_tensors.list_tensors(config, 1, head=False)
    names = [tensor.name for tensor in listed]
    assert len(set(names)) == len(names)
    assert sum(tensor.count() for tensor in listed if not any(tower in tensor.name for tower in TOWERS)) == COUNTS[name]
