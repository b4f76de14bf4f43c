# SPDX-License-Identifier: MIT
"""The parts of gpu_check.py in their order: what each is called, how long it takes, and what it stands on. Nothing is imported here,
so that --help works with any python."""
import dataclasses

ENDING = 6    # seconds at the end of --time for the table and for giving memory back
STAGE_A = 90  # seconds after which stage A waits for nothing more, the build not counted


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    stage: str       # A: a failure ends the check; B: in order of worth; then: where time is left, or named by --only or --all
    seconds: int     # about, on a GPU with 16 cores; where less is left it is not begun
    most: int        # seconds after which what it started is killed
    what: str
    needs: tuple = ()
    vital: bool = True  # of stage A: whether a failure ends the check


PARTS = (
    Part("build", "A", 2, 600, "the program as it is (--build), or built here for the GPU at hand"),
    Part("machine", "A", 2, 30, "GPU, driver, cores, memory, room for the model, libraries of the program", ("build",)),
    Part("smoke", "A", 8, 60, "cuBLASLt opens; products and attention of a small shape", ("machine",)),
    Part("tests", "A", 45, 75, "the test programs of the device, all at once", ("machine",)),
    Part("torch", "A", 8, 60, "versions of the python that is compared with", ("machine",), vital=False),
    Part("model", "A", 15, 60, "random weights in the shape of Qwen3-8B (made while the parts before it run)", ("machine",),
         vital=False),
    Part("rates", "B", 45, 90, "products (as chosen, and free), attention, row kernels, copies, a block", ("machine",)),
    Part("sustained", "B", 12, 40, "a block's products in turn for 5 s: what the extraction is judged against", ("machine",)),
    Part("extraction", "B", 40, 100, "step means of one layer, for about 20 s", ("model",)),
    Part("transformers", "B", 45, 90, "the same texts through transformers, padded batches of 16 and 8", ("extraction", "torch")),
    Part("ncu", "B", 25, 60, "Nsight Compute's shares of peak for the four kernels", ("machine",)),
    Part("company", "B", 20, 45, "texts in other batches: the same bits", ("extraction",)),
    Part("killed", "B", 40, 70, "a run killed and resumed: the same shards", ("extraction",)),
    Part("memcheck", "B", 30, 60, "compute-sanitizer's memcheck of the attention", ("machine",)),
    Part("float16", "B", 25, 60, "products and attention in float16", ("machine",)),
    Part("alone", "then", 15, 40, "texts alone in their batch: the same bits", ("extraction",)),
    Part("every_token", "then", 45, 90, "all layers of every token", ("extraction",)),
    Part("racecheck", "then", 60, 120, "compute-sanitizer's racecheck of the attention", ("machine",)),
    Part("sanitizer", "then", 120, 300, "memcheck and racecheck of the other kernels", ("machine",)),
)
NAMES = [part.name for part in PARTS]
ALWAYS = ("build", "machine")  # what every other part stands on


def default_time(every):
    """Seconds for stages A and B; with `every` for all parts."""
    return 600 if every else 420


def closure(names):
    """The names, and what they stand on."""
    found = set(names)
    for part in reversed(PARTS):  # what a part needs comes before it
        if part.name in found:
            found |= set(part.needs)
    return found


def choose(only, skip):
    """The parts to be run, in order."""
    names = closure(only) if only else {part.name for part in PARTS}
    return [part for part in PARTS if part.name in names and part.name not in skip]


def help_text():
    lines = ["The parts, in their order, with the seconds that each takes about, and at most, on a GPU with 16 cores:"]
    for stage, title in (("A", "stage A: a failure here ends the check at once, with exit code 3 (but for torch and model: other parts do without)"),
                         ("B", "stage B: in order of worth; a failure stops no other part"),
                         ("then", "then, where time is left (--all gives them time, --only names them):")):
        lines.append(f"  {title}")
        lines += [f"    {part.name:<13}{part.seconds:4} {part.most:4}  {part.what}" for part in PARTS if part.stage == stage]
    return "\n".join(lines)
