"""The table of gpu_check.py: figures, ratios, targets; on the terminal and in README.md."""
BEGIN = "<!-- gpu table: begin (tools/gpu_check.py --readme writes this part) -->\n"
END = "<!-- gpu table: end -->"
FAST = ("H100", "H200")  # devices with a target in token/s


def row(figure, value, unit, ratio=None, target=None, met=None):
    return {"figure": figure, "value": value, "unit": unit, "ratio": ratio, "target": target, "met": met}


def at_least(figure, value, unit, ratio, least, of):
    return row(figure, value, unit, ratio, f">= {least * 100:.0f} % of {of}", ratio >= least)


def judge(check):
    """Rows of the table from what was measured; what was not measured has none. Only a full run on a GPU is judged."""
    rows = [*device_rows(check), *extraction_rows(check), *transformers_rows(check), *every_token_rows(check), *proofs(check)]
    if check.options.quick or check.emulated or check.options.device == "cpu":
        for one in rows:
            one["met"] = None
    return rows


def device_rows(check):
    if "bench" not in check.figures:
        return []
    rows = []
    for figure in check.bench_figures("peaks"):
        rows.append(row(figure["what"], figure["value"], figure["unit"]))
    free = {f["what"].partition(", ")[2]: f for f in check.bench_figures("products") if f["what"].startswith("any algorithm")}
    for figure in check.bench_figures("products"):
        if figure["what"].startswith("matmul"):
            other = free.get(figure["what"].partition(", ")[2])
            bits = (f"; {other['groups']:.0f} kinds of bits, {other['chosen_group_size']:.0f} of {other['candidates']:.0f} candidates "
                    "with the chosen's" if other else "")
            rows.append(row(figure["what"], figure["value"], figure["unit"], figure["value"] / figure["limit"],
                            f"of the {figure['of']}{bits}"))
    for part in ("attention", "block", "rows", "copies"):
        for figure in check.bench_figures(part):
            ratio = figure["value"] / figure["limit"] if "limit" in figure else None
            rows.append(row(figure["what"], figure["value"], figure["unit"], ratio, f"of the {figure['of']}" if ratio else None))
    return rows


def extraction_rows(check):
    found = check.figures.get("extract")
    if found is None:
        return []
    rate, name = found["tokens_per_second"], "extraction, step means of hidden_states[-2]"
    rows = [row(name, rate, "tokens/s")]
    if "bench" in check.figures and check.products_seconds("any algorithm") > 0:
        allowed = 1 / (check.products_seconds("any algorithm") * (check.shape.layers - 1))
        rows = [at_least(name, rate, "tokens/s", rate / allowed, 0.8, f"what products alone allow ({allowed:.0f})")]
        device = check.figures["bench"]["name"]
        if any(fast in device for fast in FAST) and check.shape.layers == 36:
            rows.append(row("the same, in tokens/s", rate, "tokens/s", None, "> 27000", rate > 27000))
    lost = found["lost_between_batches"]
    rows.append(row("time lost between batches", 100 * lost, "%", None, "< 2 %", lost < 0.02))
    rows.append(row("time spent waiting for the tokenizer or the writer", 100 * found["waiting"], "%"))
    loading = found["load_bytes_per_second"]
    if loading:
        limits = {"reading its files": found["read_bytes_per_second"]}
        for figure in check.bench_figures("copies") if "bench" in check.figures else []:
            if figure["what"].endswith("host -> device"):
                limits["copies to the device"] = figure["value"] * 1e9
        slower = min(limits, key=limits.get)
        rows.append(at_least("loading the model", loading / 1e9, "GB/s", loading / limits[slower], 0.8,
                             f"{slower} ({limits[slower] / 1e9:.2f})"))
    return rows


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


def show(result):
    table = [["figure", "value", "ratio", "target", ""], *map(cells, result["table"])]
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    print(f"\n{heading(result)}")
    if result["quick"]:
        print("--quick: these figures say nothing about speed")
    for line in table:
        print("  ".join([line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].rjust(widths[2]), line[3].ljust(widths[3]), line[4]]).rstrip())
    for part in result["parts"]:
        if part["state"] != "done":
            print(f"{part['state']}: {part['name']}: {part['word']}")
    print(f"{result['seconds']:.0f} s in all")


def write_readme(readme, result):
    """Puts the table of a full run on a GPU between the README's marks."""
    if result["quick"] or result["device"].get("kind") != "cuda" or "Emulated" in result["device"]["name"]:
        raise SystemExit("only a full run on a GPU belongs into the README")
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    lines = [f"Measured on one {heading(result)}:", "", "| what | figure | ratio | target | |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cells(one)) + " |" for one in result["table"]]
    lines += [f"\n{part['name']}: {part['state']} ({part['word']})." for part in result["parts"] if part["state"] != "done"]
    readme.write_text(f"{before}{BEGIN}" + "\n".join(lines) + f"\n{END}" + rest.split(END, 1)[1])
