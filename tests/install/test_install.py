# SPDX-License-Identifier: MIT
"""What `cmake --install` and `cpack -G DEB` make of the build at hand: where things lie, manual pages without a warning, and completion
that knows the commands, options and choices that the program has."""
import os
import re
import shutil
import subprocess

import pytest

import support
from support import BUILD, SOURCE, STRATA, USAGE

COMMANDS = re.findall(r"^  ([a-z]+) ", subprocess.run([STRATA, "help"], capture_output=True, text=True).stdout.split("commands:\n")[1].split("\n\n")[0], re.M)


def quiet(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("an install") / "prefix"
    quiet("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


# ---- where things lie

def pages(prefix):
    return {str(path.relative_to(prefix / "share/man")) for path in (prefix / "share/man").rglob("*") if path.is_file()}


def test_what_is_installed(installed):
    assert quiet(installed / "bin/strata", "--version") == quiet(STRATA, "--version")
    assert os.listdir(installed / "bin") == ["strata"] and sorted(os.listdir(installed)) == ["bin", "lib", "share"]
    assert len(COMMANDS) > 10
    assert pages(installed) == {"man1/strata.1", "man5/strata-job.5", *(f"man1/strata-{name}.1" for name in COMMANDS)}
    unit = (installed / "lib/systemd/system/strata@.service").read_text()
    assert f"\nExecStart={installed}/bin/strata run " in unit and "/usr/local" not in unit
    doc = installed / "share/doc/strata-latents"
    assert (doc / "LICENSE").read_bytes() == (SOURCE / "LICENSE").read_bytes()
    for page in doc.rglob("*.md"):
        assert [link for link, _ in support.links(page) if not link.exists()] == [], page


def test_a_package_is_installed_below_usr(installed, tmp_path):
    """DESTDIR, as distributions' own tools set it."""
    quiet("cmake", "--install", BUILD, "--prefix", "/usr", env={**os.environ, "DESTDIR": str(tmp_path)})
    assert pages(tmp_path / "usr") == pages(installed) and os.listdir(tmp_path) == ["usr"]
    assert "ExecStart=/usr/bin/strata run" in (tmp_path / "usr/lib/systemd/system/strata@.service").read_text()


def test_the_debian_package(installed, tmp_path):
    quiet("cpack", "-G", "DEB", "-B", tmp_path / "made", cwd=BUILD)
    package, = (tmp_path / "made").glob("*.deb")
    about = quiet("dpkg-deb", "--info", package)
    version = re.search(r"^project\(strata VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text(), re.M)[1]
    assert "Package: strata-latents\n" in about and f"Version: {version}\n" in about
    for library in ("libc6", "libgomp1", "libhdf5", "libjansson4", "libpcre2-8-0", "libsqlite3-0", "libssl3", "libutf8proc", "libyaml-0-2", "zlib1g"):
        assert re.search(rf"^ ?Depends: .*\b{library}", about, re.M), (library, about)
    root = tmp_path / "root"
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    tool = shutil.which("dpkg") if os.geteuid() == 0 else None
    if tool:  # without what it depends on, which is this machine's
        quiet(tool, f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-architecture", "--log=/dev/null", "--install", package)
    else:
        quiet("dpkg-deb", "--extract", package, root)
    assert quiet(root / "usr/bin/strata", "--version") == quiet(STRATA, "--version")
    assert "RUNPATH" not in quiet("readelf", "-d", root / "usr/bin/strata") and ".debug_info" not in quiet("readelf", "-S", root / "usr/bin/strata")
    assert pages(root / "usr") == pages(installed)
    assert (root / "usr/share/doc/strata-latents/copyright").exists()


# ---- manual pages

def options(name):
    return set(re.findall(r"^  (--[a-z-]+)", quiet(STRATA, "help", name), re.M))


def test_manual_pages_have_no_warning(installed):
    for page in sorted((installed / "share/man").rglob("*.[15]")):
        assert page.read_bytes().isascii()
        done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-rLL=100n", page], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), (page, done.stderr)


def shown(page):
    """The words of a page, as on a terminal that is wide."""
    text = quiet("groff", "-man", "-Tascii", "-P-c", "-P-b", "-P-u", "-rLL=400n", page)
    return re.sub(r"\s+", " ", text)


def test_a_page_says_what_the_help_says(installed):
    for name in COMMANDS:
        text = shown(installed / f"share/man/man1/strata-{name}.1")
        help_ = quiet(STRATA, "help", name)
        assert help_.splitlines()[0].removeprefix(f"strata {name}: ") in text, name
        for option in options(name):
            assert option in text, (name, option)
        # The details, word by word: escapes and breaks lose none.
        details = help_.split("\n\n", 3)[3] if help_.count("\n\n") > 2 else ""
        said = re.sub(r"\s+", " ", details).strip()
        assert said in text, (name, said)
    job = shown(installed / "share/man/man5/strata-job.5")
    for line in quiet(STRATA, "help", "job").splitlines():
        if not re.match(r"^[a-z.]+: ", line):
            assert re.sub(r"\s+", " ", line.replace("`", "")).strip() in job, line  # which is bold there
    for name in COMMANDS:  # a program of that name has other options than the command
        companion = f"strata-{name}" in re.findall(r"^(strata-[a-z]+) = ", (SOURCE / "tools/python/pyproject.toml").read_text(), re.M)
        assert (f"strata-{name} --help lists" in shown(installed / f"share/man/man1/strata-{name}.1")) == companion, name
    overview = shown(installed / "share/man/man1/strata.1")
    for name in COMMANDS:
        assert f"strata-{name}(1)" in overview
    assert re.search(r"\b78 bad job file\b", overview) and "strata-job(5)" in overview


@pytest.mark.parametrize("words", [("--completion", "fish"), ("--completion", "bash", "--man"), ("job", "--completion", "zsh"),
                                   ("job", "--man", "--markdown"), ("exit-codes", "--man"), ("models", "--man"), ("nonsense", "--man")])
def test_pages_that_are_not_there(words):
    done = support.strata("help", *words)
    assert done.code == USAGE and done.out == "" and f"(did you mean '{words[0]}'?)" not in done.err, done


# ---- completion

BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { echo "compopt $*"; }
_strata
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(installed, *words):
    """What bash offers for the last word; FILES where it leaves that to its own completion of files."""
    script = installed / "share/bash-completion/completions/strata"
    lines = quiet("bash", "--norc", "-c", BASH, "bash", script, "strata", *words).split()
    return lines[5:] if lines[:1] == ["compopt"] else ["FILES", *lines]


def test_bash_completes_commands_options_and_choices(installed):
    assert set(complete(installed, "")) == {*COMMANDS, "--help", "--version"}
    assert complete(installed, "ver") == ["verify"] and complete(installed, "--v") == ["--version"]
    for name in COMMANDS:
        offered = {word.split("=")[0] for word in complete(installed, name, "--")}
        assert offered == options(name) | {"--help"}, name
    assert complete(installed, "run", "--out") == ["--output"]
    formats = re.search(r"^  --format FORMAT +(.*)$", quiet(STRATA, "help", "export"), re.M)[1]
    assert complete(installed, "export", "run", "--format", "") == re.split(r", | or ", formats)
    assert complete(installed, "export", "run", "--format", "=", "h") == ["hdf5"] == complete(installed, "export", "--format", "h")
    assert complete(installed, "run", "--retry") == ["--retry-failed", "--retry-failed=all"]
    assert set(complete(installed, "help", "")) == {*COMMANDS, "job", "exit-codes", "models"}


def test_bash_leaves_files_to_itself(installed):
    for words in (("run", ""), ("run", "jo"), ("status", "runs/"), ("run", "--output", ""), ("export", "run", "--to", "x")):
        assert complete(installed, *words) == ["FILES"], words
    assert complete(installed, "run", "--limit", "") == []  # a number: nothing to offer


ZSH = """
compdef() { : }
_describe() { print -rl -- ${(P)2} }
compadd() { print -rl -- $@ }
_arguments() { print -rl -- "$@" }
source $1
shift
words=("$@") CURRENT=$#
_strata
"""


def test_zsh_reads_its_script(installed):
    """Up to what zsh's own functions are given: specifications of _arguments, a line each."""
    script = installed / "share/zsh/site-functions/_strata"
    assert script.read_text().startswith("#compdef strata\n")
    quiet("zsh", "-n", script)

    def given(*words):
        return quiet("zsh", "-f", "-c", ZSH, "zsh", script, "strata", *words).splitlines()

    assert [line.split(":")[0] for line in given("") if not line.startswith("-")] == COMMANDS
    for name in COMMANDS:
        found = {re.match(r"--[a-z-]+?(?==|\[)", line)[0] for line in given(name, "") if line.startswith("--")}
        assert found == options(name) | {"--help"}, name
    export, run = given("export", ""), given("run", "")
    assert [line for line in export if line.startswith("--format=[") and line.endswith("]:FORMAT:(" + " ".join(complete(installed, "export", "--format", "")) + ")")]
    assert "*:DIR:_files" in export and ":JOB.yaml:_files" in run and "--quiet[show no progress]" in run
    assert [line for line in run if re.fullmatch(r"--retry-failed=-\[.*(?<!\\)\]::\\\[=all\\\]:\(all\)", line)], run
