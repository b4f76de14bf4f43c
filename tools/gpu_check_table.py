# SPDX-License-Identifier: MIT
"""The table of gpu_check.py: figures, ratios, targets; on the terminal and in kernels/README.md."""
import gpu_check_rates as rates

BEGIN = "<!-- gpu table: begin (tools/gpu_check.py --readme writes this part) -->\n"
END = "<!-- gpu table: end -->"
FAST = ("H100", "H200")  # devices with a target in token/s
PUBLISHED = 27000        # token/s of another extractor, Qwen3-8B on one H200
AIMS = {"H200": 47000}   # token/s that this program is to reach there
TAIL = 11500             # characters that are shown at most: what keeps only the end of an output keeps all of them
THROTTLE = {0x04: "power", 0x08: "hardware", 0x20: "thermal", 0x40: "thermal-hardware", 0x80: "power-brake"}


def row(figure, value, unit, ratio=None, target=None, met=None):
    return {"figure": figure, "value": value, "unit": unit, "ratio": ratio, "target": target, "met": met}


def at_least(figure, value, unit, ratio, least, of):
    return row(figure, value, unit, ratio, f">= {least * 100:.0f} % of {of}", ratio >= least)


def judge(check):
    """Rows of the table from what was measured; what was not measured has none. Only a full run on a whole GPU is judged."""
    rows = [*device_rows(check), *device_rows(check, "float16", "float16: "), *sustained_rows(check), *extraction_rows(check),
            *transformers_rows(check), *kernel_rows(check), *every_token_rows(check), *proofs(check)]
    if check.options.quick or not check.on_gpu or check.gpu_text.get("mig.mode.current") == "Enabled":
        for one in rows:
            one["met"] = None
    return rows


def device_name(check):
    return next((check.figures[part].get("name") or "" for part in ("rates", "sustained", "smoke") if part in check.figures), "")


def device_rows(check, name="rates", before=""):
    """Of one run of `strata bench`; before: stands before the names of its figures."""
    rows = []
    for figure in rates.bench_figures(check, "peaks", name):
        rows.append(row(before + figure["what"], figure["value"], figure["unit"]))
    products = rates.bench_figures(check, "products", name)
    free = {f["what"].partition(", ")[2]: f for f in products if f["what"].startswith("any algorithm")}
    for figure in products:
        if figure["what"].startswith("matmul"):
            other = free.get(figure["what"].partition(", ")[2])
            bits = f"; {other['groups']:.0f} kinds of bits in {other['candidates']:.0f} tried" if other else ""
            rows.append(row(before + figure["what"], figure["value"], figure["unit"], figure["value"] / figure["limit"],
                            f"of the {figure['of']}{bits}"))
    for part in ("attention", "block", "rows", "copies"):
        for figure in rates.bench_figures(check, part, name):
            ratio = figure["value"] / figure["limit"] if "limit" in figure else None
            rows.append(row(before + figure["what"], figure["value"], figure["unit"], ratio,
                            f"of the {figure['of']}" if ratio else figure.get("shares")))
    return rows


def sustained_rows(check):
    rows = []
    for figure in rates.bench_figures(check, "sustained", "sustained"):
        ratio = figure["value"] / figure["limit"] if "limit" in figure else None
        rows.append(row(figure["what"], figure["value"], figure["unit"], ratio, "of the first second" if ratio else None))
    reasons = check.figures.get("sustained", {}).get("throttle_reasons")
    if rows and reasons:
        rows[-1]["target"] = f"throttled: {reasons}"
    return rows


def throttle_words(reasons):
    if reasons is None or reasons < 0:
        return "unknown"
    return "+".join(name for bit, name in THROTTLE.items() if reasons & bit) or "none"


def extraction_rows(check):
    found = check.figures.get("extract")
    if found is None:
        return []
    rate, layers = found["tokens_per_second"], check.shape.layers - 1
    rows = [row("extraction, step means of hidden_states[-2]", rate, "tokens/s")]
    sustained, alone = rates.sustained_block_rate(check), rates.products_seconds(check)
    if sustained:
        rows = [at_least(rows[0]["figure"], rate, "tokens/s", rate * layers / sustained, 0.85,
                         f"its products when sustained ({sustained / layers:.0f})")]
    if alone > 0:
        rows.append(row("the same, of its products at their best", rate, "tokens/s", rate * alone * layers, f"of {1 / (alone * layers):.0f}"))
    rows += published_rows(check, rate)
    lost = found["lost_between_batches"]
    rows.append(row("time lost between batches", 100 * lost, "%", None, "< 2 %", lost < 0.02))
    rows.append(row("time waiting for the tokenizer or the writer", 100 * found["waiting"], "%"))
    if "first_wait" in found:
        rows.append(row("the first batch's wait, not among those", found["first_wait"], "s"))
    if found.get("tokens") and found.get("batches"):
        rows.append(row("fill of its batches", 100 * found["tokens"] / (found["batches"] * check.shape.tokens), "%"))
    rows += clock_rows(found)
    if found["load_bytes_per_second"]:
        rows.append(loading_row(check, found))
    return rows


def published_rows(check, rate):
    """Rates of a whole Qwen3-8B stand beside published ones; fewer layers are only scaled."""
    device = next((fast for fast in FAST if fast in device_name(check)), None)
    if device is None:
        return []
    if check.shape.layers == check.whole:
        rows = [row("the same, in tokens/s", rate, "tokens/s", None, f"> {PUBLISHED} (published, H200)", rate > PUBLISHED)]
        return rows + [row("the same, against the aim", rate, "tokens/s", rate / AIMS[device], f"aim: {AIMS[device]} ({device})")] \
            if device in AIMS else rows
    scaled = rate * (check.shape.layers - 1) / (check.whole - 1)
    return [row(f"the same, computed for {check.whole} layers", scaled, "tokens/s", None, f"not judged (published: {PUBLISHED})")]


def clock_rows(found):
    rows = []
    if found.get("lowest_sm_clock"):
        rows.append(row("lowest SM clock while extracting", found["lowest_sm_clock"], "MHz", None,
                        f"throttled: {throttle_words(found.get('throttle_reasons'))}"))
    if found.get("watched", {}).get("power"):
        rows.append(row("power while extracting (nvidia-smi)", found["watched"]["power"], "W", None, f"{found['watched']['seconds']} busy seconds"))
    return rows


def loading_row(check, found):
    loading = found["load_bytes_per_second"]
    limits = {"reading its files": found["read_bytes_per_second"]}
    for figure in rates.bench_figures(check, "copies"):
        if figure["what"].endswith("host -> device"):
            limits["copies to the device"] = figure["value"] * 1e9
    slower = min(limits, key=limits.get)
    return at_least("loading the model", loading / 1e9, "GB/s", loading / limits[slower], 0.8, f"{slower} ({limits[slower] / 1e9:.2f})")


def transformers_rows(check):
    found = check.figures.get("transformers")
    if found is None:
        return []
    rates = {int(size): rate for size, rate in found["rates"].items() if rate}
    rows = [row(f"transformers, padded batch {size}", rate, "tokens/s") for size, rate in sorted(rates.items())]
    ours, best = check.figures["extract"]["tokens_per_second"], max(rates.values())
    if 8 in rates:
        rows.append(row("strata against transformers' batch 8", ours / rates[8], "x"))
    rows.append(row("strata against transformers' best", ours / best, "x", None, ">= 2 x", ours >= 2 * best))
    rows.append(row("latents against transformers': lowest cosine", found["lowest_cosine"], ""))
    rows.append(row("latents against transformers': worst relative error", found["worst_error"], ""))
    return rows


def kernel_rows(check):
    """Nsight Compute's shares of peak: what bounds each kernel."""
    rows = []
    for name, found in sorted(check.figures.get("ncu", {}).items()):
        shares = [f"{what} {found[key]:.0f} %" for what, key in (("SM", "sm"), ("memory", "memory"), ("DRAM", "dram"), ("occupancy", "occupancy"))
                  if key in found]
        rows.append(row(f"ncu: {name}", found.get("duration", 0.0), "us", None, ", ".join(shares)))
    return rows


def every_token_rows(check):
    found = check.figures.get("every_token")
    if found is None:
        return []
    rate = found["wall_tokens_per_second"]  # what is computed counts once it is sealed
    one, disk = check.figures["extract"]["tokens_per_second"], found["write_bytes_per_second"] / found["token_bytes"]
    what = "the rate with one pooled layer" if 0.7 * one <= disk else f"the disk's rate ({disk:.0f})"
    least = min(0.7 * one, disk)
    return [row("extraction, all layers of every token", rate, "tokens/s", rate / (one if 0.7 * one <= disk else disk),
                f">= {'70 % of ' if 0.7 * one <= disk else ''}{what}", rate >= least),
            row("stored while extracting", found["stored_bytes"] / found["wall_seconds"] / 1e9, "GB/s"),
            row("writing one file to the same place", found["write_bytes_per_second"] / 1e9, "GB/s")]


def proofs(check):
    rows = []
    for part, what in (("company", "texts whose bits differ in other company"), ("alone", "texts whose bits differ when alone")):
        if found := check.figures.get(part):
            bound = found["same_size"]  # products of another size may add up in another order
            rows.append(row(what, len(found["different"]), f"of {found['problems']}", None, "0" if bound else "products of another size",
                            not found["different"] if bound else None))
    if found := check.figures.get("killed"):
        rows.append(row("killed and resumed: shards", found["shards"], "", None, "the same hashes", found["equal"]))
    return rows


# ---- shown ----

def cut(text, most):
    return text if len(text) <= most else text[:most - 3] + "..."


def cells(one):
    value = one["value"]
    shown = f"{value:.6f}" if one["unit"] == "" and isinstance(value, float) else f"{value:,.{0 if abs(value) >= 1000 else 2}f}"
    if isinstance(value, int):
        shown = str(value)
    ratio = f"{100 * one['ratio']:.1f} %" if one["ratio"] is not None else ""
    return [one["figure"], f"{shown} {one['unit']}".strip(), ratio, one["target"] or "",
            {True: "met", False: "not met", None: ""}[one["met"]]]


def heading(result):
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if name not in ("host", "python"))
    return (f"{result['device'].get('name') or result['device']['asked']}, {result['date']}; {versions}; "
            f"{result['shape']['layers']} layers of hidden size {result['shape']['hidden']}, batches of {result['shape']['tokens']} tokens")


def ending(result):
    """Lines below the table: what spoils figures, and the parts that were not done."""
    lines = [("warning", cut(words, 300)) for words in result["warnings"]]
    lines += [(part["state"], f"{part['name']}: {cut(' '.join(part['word'].split()), 400)}") for part in result["parts"] if part["state"] != "done"]
    if result["ended"] != "done":
        lines.append(("ended early", result["ended"]))
    return lines


def table_text(result):
    """All that is shown at the end, TAIL characters at most: where words are too many, those about failed parts are cut, then the table's."""
    table = [["figure", "value", "ratio", "target", ""], *map(cells, result["table"])]
    for most_name, most_target, most_word in ((54, 64, 300), (54, 48, 120), (44, 30, 60), (32, 16, 30)):
        lines = [[cut(line[0], most_name), line[1], line[2], cut(line[3], most_target), line[4]] for line in table]
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        shown = ["", cut(heading(result), 400)]
        if result["quick"]:
            shown.append("--quick: these figures say nothing about speed")
        for line in lines:
            shown.append("  ".join([line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].rjust(widths[2]), line[3].ljust(widths[3]),
                                    line[4]]).rstrip())
        shown += [f"{state}: {cut(words, most_word)}" for state, words in ending(result)]
        shown.append(f"{result['seconds']:.0f} s in all")
        if len("\n".join(shown)) <= TAIL:
            break
    return "\n".join(shown)


def write_readme(readme, result):
    """Puts the table of a full run on a GPU between the marks of kernels/README.md."""
    if result["quick"] or result["device"].get("kind") != "cuda" or "Emulated" in result["device"]["name"]:
        raise SystemExit("only a full run on a GPU belongs in kernels/README.md")
    if result["ended"] != "done" or not any(one["figure"].startswith("extraction, step means") for one in result["table"]):
        raise SystemExit("only a run that came to its end, and extracted, belongs in kernels/README.md")
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    lines = [f"Measured on one {heading(result)}:", "", "| what | figure | ratio | target | |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cells(one)) + " |" for one in result["table"]]
    lines += [f"\n{part['name']}: {part['state']} ({part['word']})." for part in result["parts"] if part["state"] != "done"]
    readme.write_text(f"{before}{BEGIN}" + "\n".join(lines) + f"\n{END}" + rest.split(END, 1)[1])
