# SPDX-License-Identifier: MIT
"""The bundle (tools/bundle.sh) of the build at hand: what is in it, what it asks of a machine, and that it runs in a root with nothing
but glibc, libgcc_s and libstdc++."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import support
from support import BUILD, DEVICE, OK, SOURCE, STRATA

SCRIPT = SOURCE / "tools" / "bundle.sh"
SYSTEM = re.compile(r"(ld-linux[^/]*|lib(c|m|mvec|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+))\.so\.\d+")
LATEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (11,)}
MOST = 64_000_000

pytestmark = pytest.mark.skipif(shutil.which("patchelf") is None or shutil.which("xz") is None, reason="patchelf or xz is not here")


def bundle(*words, **more):
    return subprocess.run(["bash", SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=600, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made here") / "strata-bundle"
    done = bundle("--build", BUILD, "--to", folder)
    assert done.returncode == 0, done.stderr
    assert "without" not in done.stdout, done.stdout  # every test of the device is built
    return folder


# ---- what is in it

def elves(folder):
    files = [folder / "strata", *(folder / "tests").glob("*_test_*"), *(folder / "lib").iterdir()]
    assert len(files) > 10
    return files


def readelf(option, file):
    return subprocess.run(["readelf", "-W", option, file], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


def test_every_library_is_beside_or_the_machines(made):
    for file in elves(made):
        dynamic = readelf("-d", file)
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            assert SYSTEM.fullmatch(name) or (made / "lib" / name).exists(), (file, name)
        origin = {"lib": "$ORIGIN", "tests": "$ORIGIN/../lib"}.get(file.parent.name, "$ORIGIN/lib")
        assert re.findall(r"\((R\w*PATH)\).*\[(.*)\]", dynamic) == [("RPATH", origin)], file
        assert ".debug_info" not in readelf("-S", file), file
    names = {file.name for file in (made / "lib").iterdir()}
    assert not [name for name in names if SYSTEM.fullmatch(name)]
    # What HDF5's S3 driver drags in.
    assert not [name for name in names if re.match(r"lib(krb5|ldap|gnutls|ssl|nghttp2|gssapi)", name)]


def test_no_newer_machine_is_needed(made):
    for file in elves(made):
        for kind, version in re.findall(r" Name: (GLIBC|GLIBCXX|CXXABI|GCC)_(\S+)  Flags: ", readelf("-V", file)):
            assert tuple(map(int, version.split("."))) <= LATEST[kind], (file, kind, version)


def test_the_rest_of_it(made):
    files = {file.stat().st_ino: file for file in made.rglob("*") if file.is_file()}  # one may have several names
    assert sum(file.stat().st_size for file in files.values()) <= MOST
    assert not [file for file in made.rglob("*") if file.is_symlink()]
    pages = [str(page.relative_to(made)) for page in made.rglob("*.md")]
    assert {"README.md", "checkpoints/README.md", "configs/README.md", "configs/parts.md", "kernels/README.md"} < set(pages)
    for name in (*pages, "LICENSE", "configs/demo.yaml", "tools/gpu-check.sh", "tools/gpu_check.py", "tools/make_model.py",
                 "tools/make_problems.py"):
        assert (made / name).read_bytes() == (SOURCE / name).read_bytes()
    assert [(name, link) for name in pages for link, _ in support.links(made / name) if not link.exists()] == []
    assert os.access(made / "tools/gpu-check.sh", os.X_OK)
    scripts = "\n".join(file.read_text() for file in (made / "tools").glob("gpu_check*.py"))
    checked = re.findall(r'"(\w+)"', re.search(r"^TESTS = \[(.*?)\]", scripts, re.M | re.S)[1])
    assert len(checked) > 3 and set(checked) <= {file.name for file in (made / "tests").iterdir()}
    if shutil.which("dpkg-query"):
        assert len(list((made / "licenses").iterdir())) >= 8
    assert "-march=native" not in (BUILD / "compile_commands.json").read_text()


def test_the_archive_is_the_folder_and_made_alike_again(made):
    archive = made.with_name(made.name + ".tar.xz")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == members[0].mtime and not member.mode & 0o022
            file = made.parent / member.name
            if member.isfile():
                assert tar.extractfile(member).read() == file.read_bytes()
                assert bool(member.mode & 0o100) == os.access(file, os.X_OK)
    assert {made.parent / member.name for member in members} == {made, *made.rglob("*")}
    first = hashlib.sha256(archive.read_bytes()).hexdigest()
    for file in made.rglob("*"):
        os.utime(file)
    assert bundle("--build", BUILD, "--to", made, umask=0o077).returncode == 0
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == first


# ---- refused

def fake_build(folder, flags="-O2"):
    (folder / "tests").mkdir(parents=True)
    shutil.copy(STRATA, folder)
    (folder / "device_tests.txt").write_text("")
    (folder / "compile_commands.json").write_text(json.dumps([{"command": f"cc {flags} x.c"}]))
    return folder


def refused(tmp_path, build, words, *options, **more):
    done = bundle("--build", build, "--to", tmp_path / "out", *options, **more)
    assert done.returncode == 1 and words in done.stderr, done
    assert not list(tmp_path.glob("out*"))  # nothing half made


def test_refused(tmp_path):
    refused(tmp_path, BUILD, "strata needs GLIBC_2.", "--glibc", "2.17")
    refused(tmp_path, tmp_path / "none", "build it first")
    refused(tmp_path, fake_build(tmp_path / "native", "-O2 -march=native"), "compiled for this processor alone")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/data").write_text("dear")
    done = bundle("--build", BUILD, "--to", tmp_path / "mine")
    assert done.returncode == 1 and "is no bundle" in done.stderr and (tmp_path / "mine/data").read_text() == "dear"
    assert bundle("--what").returncode == 64
    assert bundle("--to").returncode == 1


def test_refused_when_it_is_too_large(tmp_path):
    build = fake_build(tmp_path / "large")
    (tmp_path / "large.c").write_text("char large[97000000] = {1};\nint main(void) { return large[1]; }\n")
    subprocess.run(["cc", "-o", build / "tests/large", tmp_path / "large.c"], check=True)
    (build / "device_tests.txt").write_text("large\n")
    refused(tmp_path, build, "64000000 at most")


def test_refused_without_its_tools(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "readelf"):
        (tools / name).symlink_to(shutil.which(name))
    refused(tmp_path, BUILD, "patchelf (Debian: patchelf)", env={"PATH": str(tools)})


@pytest.mark.parametrize("version", ["", "CURL_OPENSSL_4 { global: curl_easy_init; };"], ids=["plain", "versioned"])
def test_curl_is_cut_off_from_hdf5(tmp_path, version):
    """Of an HDF5 with its S3 driver, and a curl with versions of its symbols or without."""
    def library(name, source, *words):
        (tmp_path / f"{name}.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / name, tmp_path / f"{name}.c", f"-Wl,-soname={name}", *words], check=True)

    (tmp_path / "map").write_text(version or "{ global: *; };")
    library("libcurl.so.4", "int curl_easy_init(void) { return 1; }\n", f"-Wl,--version-script={tmp_path}/map")
    library("libhdf5_s3.so.1", "int curl_easy_init(void);\nint hdf5_init(void) { return curl_easy_init(); }\n", tmp_path / "libcurl.so.4")
    build = fake_build(tmp_path / "build")
    for words in (["--force-rpath", "--set-rpath", tmp_path], ["--add-needed", "libhdf5_s3.so.1"]):  # both at once give another RPATH
        subprocess.run(["patchelf", *words, build / "strata"], check=True)
    done = bundle("--build", build, "--to", tmp_path / "out")
    assert done.returncode == 0, done
    asked = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); sys.exit(ctypes.CDLL(sys.argv[2]).hdf5_init())"
    said = subprocess.run([sys.executable, "-c", asked, tmp_path / "out/lib/libcurl.so.4", tmp_path / "out/lib/libhdf5_s3.so.1"],
                          capture_output=True, text=True, env={**os.environ, "LD_BIND_NOW": "1"})
    assert (said.returncode, said.stderr) == (0, "")
    assert subprocess.run([tmp_path / "out/strata", "--version"], env={"LD_BIND_NOW": "1"}).returncode == OK


# ---- elsewhere

def host_libraries():
    """glibc's, libgcc_s and libstdc++ of this machine, by the path that the loader takes them from."""
    said = subprocess.run(["ldd", STRATA], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", said, re.M)
    return [Path(path) for path in found if SYSTEM.fullmatch(Path(path).name)]


class Root:
    """A root folder that commands run in, with /proc, which the loader finds $ORIGIN by."""

    def __init__(self, folder, made):
        self.folder = folder
        for name in ("proc", "tmp", "bin", "opt"):
            (folder / name).mkdir(parents=True)
        for library in host_libraries():
            place = folder / library.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)  # what a link names
        shutil.copytree(made, folder / "opt/a b/strata")
        (folder / "bin/strata").symlink_to("../opt/a b/strata/strata")
        for enter in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
            self.enter = enter
            if self.call("/bin/strata", "--version").returncode == OK:
                return
        pytest.skip("a root folder of its own cannot be entered here")

    def call(self, *words, read_only=False):
        """In the folder /tmp of the root. read_only: the bundle cannot be written to."""
        here = str(self.folder)
        script = 'root=$1 read_only=$2; shift 2; mount --rbind /proc "$root/proc" || exit 125; '
        script += 'if [ -n "$read_only" ]; then for how in bind remount,ro,bind; do mount -o $how "$root/opt" "$root/opt" || exit 125; done; fi; '
        script += 'exec chroot "$root" "$@"'
        return subprocess.run([*self.enter, "sh", "-c", script, "sh", here, "1" if read_only else "", *map(str, words)], text=True,
                              capture_output=True, timeout=300, cwd=self.folder / "tmp", env={"PATH": os.environ["PATH"]})


@pytest.fixture(scope="module")
def root(made, tmp_path_factory):
    return Root(tmp_path_factory.mktemp("root"), made)


def test_it_runs_in_a_bare_root(root):
    version = subprocess.run([STRATA, "--version"], capture_output=True, text=True, check=True).stdout
    for program in ("/bin/strata", "/opt/a b/strata/strata"):
        for read_only in (False, True):
            done = root.call(program, "--version", read_only=read_only)
            assert (done.returncode, done.stdout, done.stderr) == (OK, version, ""), done
    done = root.call("/opt/a b/strata/tests/kernels_test_device", read_only=True)
    assert done.returncode == 0 and "[  PASSED  ]" in done.stdout + done.stderr, done


def test_its_own_libraries_come_before_the_environments(made, tmp_path):
    for name in ("libjansson.so.4", "libhdf5_serial.so.103", "libz.so.1"):
        (tmp_path / name).write_text("not a library\n")
    for words in (["strata", "--version"], ["tests/kernels_test_device"]):
        done = subprocess.run([made / words[0], *words[1:]], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(tmp_path)})
        assert done.returncode == 0, done


def put_demo(folder):
    """What tools/demo.sh makes, smaller."""
    (folder / "demo").mkdir(parents=True)
    (folder / "configs").mkdir()
    shutil.copy(SOURCE / "configs/demo.yaml", folder / "configs")
    problems = folder / "demo/problems.jsonl"
    with open(problems, "w") as out:
        subprocess.run([sys.executable, SOURCE / "tools/make_problems.py", "--count", "40", "--seed", "7"], stdout=out, check=True)
    subprocess.run([sys.executable, SOURCE / "tools/make_model.py", "--to", folder / "demo/model", "--hidden", "64", "--layers", "3", "--heads",
                    "4", "--kv-heads", "2", "--head-dim", "16", "--intermediate", "128", "--vocabulary", "600", "--corpus", problems], check=True)


def test_the_demo_runs_in_a_bare_root_and_makes_the_same_bytes(root, tmp_path):
    here = tmp_path / "job"
    put_demo(here)
    there = root.folder / "job"
    shutil.copytree(here, there)
    for words in (("import", "demo/problems.jsonl", "demo/problems.db"), ("check", "configs/demo.yaml"), ("run", "configs/demo.yaml"),
                  ("verify", "demo/run")):
        done = subprocess.run([STRATA, words[0], *(here / word for word in words[1:])], capture_output=True, text=True)
        assert done.returncode == OK, done
        done = root.call("/bin/strata", words[0], *(f"/job/{word}" for word in words[1:]))
        assert done.returncode == OK, done
    shards = [sorted((folder / "demo/run/shards").iterdir()) for folder in (here, there)]
    assert len(shards[0]) >= 1 and [file.name for file in shards[0]] == [file.name for file in shards[1]]
    for own, other in zip(*shards):
        assert own.read_bytes() == other.read_bytes(), own.name


def test_a_gpu_is_refused_in_words_in_a_bare_root(root, tmp_path):
    there = root.folder / "gpu"
    put_demo(there)
    job = there / "configs/demo.yaml"
    job.write_text(job.read_text().replace("device: cpu", "device: cuda:0"))
    assert root.call("/bin/strata", "import", "/gpu/demo/problems.jsonl", "/gpu/demo/problems.db").returncode == OK
    done = root.call("/bin/strata", "run", "/gpu/configs/demo.yaml")
    assert done.returncode == DEVICE, done
    assert re.search(r"device cuda:0 is not available: (no NVIDIA driver was found|built without CUDA)", done.stderr), done
    assert not list(there.glob("demo/run/shards/*"))
