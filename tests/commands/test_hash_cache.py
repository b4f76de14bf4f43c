# SPDX-License-Identifier: MIT
"""Hashes of weight files kept between launches: what is believed of them, what is not, and that none of it fails a run.

On a RAM disk, whose files tell the time of their change; the program's clock is an hour ahead, so that these changes
are long ago.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import stat
import tempfile

import pytest

import support
from packed.runs import same_latents
from support import BUILD, DATA, JOB, OK, STOPPED, Job, make_model, make_problems

AHEAD = BUILD / "tests" / "commands_preload_ahead.so"
PROBLEMS = make_problems(12, seed=4)
BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield pathlib.Path(folder)


class Place:
    """A model of two files, a job, and a cache."""

    def __init__(self, folder, model=None, /, **sections):
        self.model = pathlib.Path(shutil.copytree(model or make_model(), folder / "model"))
        self.cache = folder / "cache"
        self.kept = self.cache / "strata" / "weights" / f"{BOOT}.json"
        self.job = Job(folder / "job", PROBLEMS, self.model, **sections)

    def files(self):
        return sorted(self.model.glob("*.safetensors"))

    def environment(self, **changes):
        """None takes a variable away."""
        merged = {**support.clean_environment(LD_PRELOAD=str(AHEAD), XDG_CACHE_HOME=str(self.cache)), **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def run(self, *arguments, expect=OK, **changes):
        """What the launch says of hashes: how many files were known, and bytes read."""
        before = self.log()
        done = self.job.run(*arguments, expect=expect, environment=self.environment(**changes))
        said = self.log()[len(before):]
        known = re.search(r"(\d+) of 2 weight files are as an earlier launch hashed them", said)
        size = re.search(r"weights: ([\d.]+) GB read", said)
        return done, int(known[1]) if known else 0, float(size[1]) * 1e9 if size else None

    def known(self, *arguments, **changes):
        return self.run(*arguments, **changes)[1]

    def log(self):
        path = self.job.output / "run.log"
        return path.read_text() if path.exists() else ""

    def fingerprint(self):
        return self.job.query("SELECT value FROM identity WHERE key = 'model.fingerprint'")[0][0]


@pytest.fixture
def made(place):
    """A run that is finished, and kept the hashes of its model."""
    made = Place(place)
    assert made.known() == 0
    assert made.kept.exists()
    return made


def write_back(path, content, info):
    """Other bytes in the same file, with its former times as far as they can be set."""
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


# ---- what is the same

def test_the_same_run(place):
    """With hashes that are kept, known and not looked at: identity, latents and attributes are those of each other."""
    place = Place(place)
    plain = place.job.twin(place.job.folder.parent / "plain", model={"hash_cache": False})
    plain.run(environment=place.environment())
    assert not place.cache.exists()
    place.run("--stop-after", "2", expect=STOPPED)
    assert place.run()[1] == 2
    assert place.fingerprint() == plain.query("SELECT value FROM identity WHERE key = 'model.fingerprint'")[0][0]
    same_latents(place.job, plain)
    assert place.job.shards() == plain.shards()


def test_the_other_parts_of_a_job(place):
    place = Place(place)
    for part in range(3):
        place.job.run("--part", f"{part}/3", environment=place.environment())
    logs = [path.read_text() for path in sorted(place.job.output.glob("part-*/run.log"))]
    assert ["2 of 2 weight files are as an earlier launch hashed them" in log for log in logs] == [False, True, True]


def test_a_finished_run_reads_nothing(made):
    _, known, size = made.run()
    assert (known, size) == (2, 0)


def test_what_no_device_holds_is_not_read(place):
    """The embeddings alone: the blocks are passed over once their hashes are known. Whole pieces of 4 MiB are read."""
    place = Place(place, make_model("wide", hidden=256, intermediate=2048), latents={"layers": [0]})
    everything = sum(path.stat().st_size for path in place.files())
    assert everything > 20e6
    assert place.run("--stop-after", "1", expect=STOPPED)[2] == pytest.approx(everything, abs=1e6)
    assert place.run("--stop-after", "1", expect=STOPPED)[1:] == (2, pytest.approx(4 << 20, abs=1e6))


def test_streamed_blocks_are_held_to_known_hashes(place):
    place = Place(place, model={"weights": "disk", "resident_blocks": 1})
    plain = place.job.twin(place.job.folder.parent / "plain", model={"hash_cache": False})
    plain.run(environment=place.environment())
    place.run("--stop-after", "2", expect=STOPPED)
    assert place.known() == 2
    same_latents(place.job, plain)


def test_permissions(made):
    for folder in (made.cache, made.cache / "strata", made.kept.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.kept.stat().st_mode) == 0o600
    assert [path.name for path in made.kept.parent.iterdir()] == [made.kept.name]


def test_check_uses_them_and_writes_nothing(made):
    content = made.kept.read_bytes()
    info = made.kept.stat()
    done = support.strata("check", made.job.file, environment=made.environment())
    assert done.code == OK and made.kept.stat() == info and made.kept.read_bytes() == content
    shutil.rmtree(made.cache)
    assert support.strata("check", made.job.file, environment=made.environment()).code == OK
    assert not made.cache.exists()


# ---- what has changed

def test_a_changed_byte_with_its_size_and_times_restored(made):
    path = made.files()[1]
    info = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    write_back(path, content, info)
    now = path.stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (info.st_size, info.st_mtime_ns, info.st_ino)
    done, known, _ = made.run(expect=JOB)
    assert known == 1 and "model.fingerprint" in done.err
    assert support.strata("check", made.job.file, environment=made.environment()).code != OK


def test_a_file_that_another_took_the_place_of(made):
    path = made.files()[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    info = path.stat()
    aside = path.with_suffix(".new")
    aside.write_bytes(content)
    os.utime(aside, ns=(info.st_atime_ns, info.st_mtime_ns))
    aside.rename(path)
    assert "model.fingerprint" in made.run(expect=JOB)[0].err


def test_the_same_bytes_under_another_stamp(made):
    """Touched, and copied: hashed again, and found the same."""
    made.files()[0].touch()
    assert made.known() == 1
    assert made.known() == 2
    moved = made.model.with_name("moved")
    shutil.copytree(made.model, moved)
    made.job.change(model={"path": str(moved)})
    assert made.known() == 0 and made.known() == 2


def test_a_file_that_changed_just_now_is_not_kept(place):
    place = Place(place)
    place.run(LD_PRELOAD=None)
    assert not place.kept.exists()
    assert place.known(LD_PRELOAD=None) == 0


def test_bytes_that_changed_without_a_sign(made):
    """What no stamp tells is seen in the pieces that are hashed nevertheless, and not believed a second time."""
    kept = json.loads(made.kept.read_text())
    forge(kept, made.files()[0], lambda digits: ("0" if digits[0] != "0" else "1") + digits[1:])
    made.kept.write_text(json.dumps(kept))
    shutil.rmtree(made.job.output)
    done = made.run(expect=DATA)[0]
    assert f"{made.files()[0]}: bytes 0 to " in done.err and "the same command hashes all of it again" in done.err
    made.run()
    assert made.known() == 2


def forge(kept, path, change):
    """Other hashes under a sum that is right."""
    entry = kept["files"][str(path)]
    entry["hashes"] = change(entry["hashes"])
    fields = (str(path), entry["stamp"], entry["hashes"])
    entry["sha256"] = hashlib.sha256(b"".join(len(field).to_bytes(8, "little") + field.encode() for field in fields)).hexdigest()


# ---- what is kept is not as it should be

def test_damage(made):
    """Cut, emptied or with another bit anywhere: what is not whole is passed over and made anew."""
    content = made.kept.read_bytes()
    rng = random.Random(3)
    damaged = [b"", b"[]", b"\0" * len(content), content * 2, *(content[:rng.randrange(len(content))] for _ in range(3))]
    for _ in range(8):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(changed))
    for bytes_ in damaged:
        made.kept.write_bytes(bytes_)
        made.run()
        assert made.known() == 2, bytes_


@pytest.mark.parametrize("change", [
    lambda kept: kept.update(format=2), lambda kept: kept.update(files=[]), lambda kept: kept.pop("files"),
    lambda kept: [entry.update(hashes=entry["hashes"][:-64]) for entry in kept["files"].values()],
    lambda kept: [entry.update(hashes=entry["hashes"].upper()) for entry in kept["files"].values()],
    lambda kept: [entry.update(hashes=7) for entry in kept["files"].values()],
    lambda kept: [entry.pop("sha256") for entry in kept["files"].values()],
    lambda kept: kept["files"].update(dict.fromkeys(kept["files"], None))])
def test_odd_content(made, change):
    kept = json.loads(made.kept.read_text())
    change(kept)
    made.kept.write_text(json.dumps(kept))
    assert made.known() == 0 and made.known() == 2


@pytest.mark.parametrize("digits", [lambda old: old[:-64], lambda old: old + old[:64], lambda old: "x" + old[1:], lambda old: ""])
def test_hashes_of_another_file(made, digits):
    """Under a sum that is right: too few, too many, none."""
    kept = json.loads(made.kept.read_text())
    for path in made.files():
        forge(kept, path, digits)
    made.kept.write_text(json.dumps(kept))
    assert made.known() == 0 and made.known() == 2


def test_others_may_write_it(made):
    for path, mode in ((made.kept, 0o620), (made.kept, 0o602), (made.kept.parent, 0o720), (made.kept.parent, 0o702)):
        good = path.stat().st_mode
        path.chmod(mode)
        assert made.known() == 0
        path.chmod(good & 0o700)
        assert made.known() == 2


def test_a_link_in_its_place(made):
    other = made.kept.with_name("other")
    made.kept.rename(other)
    made.kept.symlink_to(other)
    assert made.known() == 0
    assert not made.kept.is_symlink() and made.known() == 2
    elsewhere = made.kept.parent.with_name("elsewhere")
    made.kept.parent.rename(elsewhere)
    made.kept.parent.symlink_to(elsewhere)
    assert made.known() == 0 and made.known() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_another_owner(made):
    for path in (made.kept, made.kept.parent):
        os.chown(path, 12345, -1)
        assert made.known() == 0
        os.chown(path, 0, -1)


def test_another_machine(made):
    """Another start of a machine has a file of its own, and this one keeps that."""
    other = made.kept.with_name("01234567-89ab-cdef-0123-456789abcdef.json")
    made.kept.rename(other)
    assert made.known() == 0 and made.known() == 2
    assert other.exists()
    os.utime(other, (0, 0))
    made.files()[0].touch()
    made.run()
    assert not other.exists() and made.known() == 2


@pytest.mark.parametrize("changes", [
    {"XDG_CACHE_HOME": None, "HOME": None}, {"XDG_CACHE_HOME": "", "HOME": ""}, {"XDG_CACHE_HOME": "here", "HOME": "there"},
    {"XDG_CACHE_HOME": "/proc"}, {"XDG_CACHE_HOME": "/dev/null"}, {"XDG_CACHE_HOME": None, "HOME": "/proc"},
    {"XDG_CACHE_HOME": "/" + "x" * 300}, {"XDG_CACHE_HOME": "/" + "x/" * 3000}])
def test_nowhere_to_keep_them(place, changes):
    place = Place(place)
    done, known, _ = place.run(**changes)
    assert done.said() == [] and known == 0
    assert place.known(**changes) == 0
    assert not (place.job.folder / "here").exists() and not pathlib.Path("there").exists()


def test_a_home_that_cannot_be_written(place):
    place = Place(place)
    place.cache.mkdir()
    place.cache.chmod(0o500)
    (place.cache / "strata").write_text("in the way, for root may write everywhere")
    done, known, _ = place.run()
    assert done.said() == [] and known == 0
    assert f"hashes of the weights are not kept in {place.cache}/strata/weights: " in place.log()


def test_home_without_a_cache_folder(place):
    place = Place(place)
    home = place.cache.with_name("home")
    home.mkdir()
    for changes in ({"XDG_CACHE_HOME": None, "HOME": str(home)}, {"XDG_CACHE_HOME": "relative", "HOME": str(home)}):
        assert place.known(**changes) == (0 if "relative" not in changes.values() else 2)
    assert (home / ".cache" / "strata" / "weights" / place.kept.name).exists()


def test_turned_off(made):
    made.job.change(model={"hash_cache": False})
    assert made.known() == 0
