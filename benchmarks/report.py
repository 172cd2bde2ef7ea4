"""The README's tables and figure, made from what the benchmarks have kept in benchmarks/results."""

import math
import statistics
from pathlib import Path

import record

from labkit import stress

FIGURE = record.FOLDER / "growth.png"
CLAIMS = Path(__file__).with_name("claims.md")
ALT = (
    "Four panels with logarithmic axes: seconds of a fit of one epoch against images, width and depth, and seconds of "
    "a study against seeds, each with one core and with more; beside the curves a dotted line of proportional growth."
)
TITLES = {
    "images": ("images", "seconds of `fit`, one epoch"),
    "width": ("units in each of two layers", "seconds of `fit`, one epoch"),
    "depth": ("layers of 128 units", "seconds of `fit`, one epoch"),
    "seeds": ("seeds of one network", "seconds of the study"),
}


def speed():
    """Training one network: plain Keras, the labs' settings, PyTorch."""
    kept = record.read("training")
    if kept is None:
        return "Not measured yet: `labs bench training`."
    rows = []
    for row in kept["rows"]:
        ratios = [_ratio(row[way]) for way in ("steps", "steps and XLA")]
        share = f"{row['plain']['share_of_peak']:.0%} → {max(row[w]['share_of_peak'] for w in WAYS):.0%}"
        torch = f"{row['torch']['ratio']:.2f}" if "torch" in row else "–"
        accuracy = ", ".join(_span(row[way]["accuracy"]) for way in (*WAYS, *["torch"] * ("torch" in row)))
        rows.append([row["network"], f"{row['plain']['seconds']:.2f} s", *ratios, torch, share, accuracy])
    faster = [f"{way}, times as fast" for way in ("`steps_per_execution=64`", "and `jit_compile=True`", "PyTorch")]
    text = [record.table(["network", "plain Keras", *faster, "share of peak", "accuracy"], rows), ""]
    peak = max(row["peak_gflops"] for row in kept["rows"])
    seeds = len(kept["rows"][0]["plain"]["accuracy"])
    images = [row["images"] for row in kept["rows"]]
    longer = [row["steps and XLA"]["start"] - row["steps"]["start"] for row in kept["rows"]]
    against = "; ".join(f"{row['network']}: {_ratio(row['xla_against_steps'])}" for row in kept["rows"])
    text.append(
        "*Plain Keras*: the seconds of an epoch, which has "
        f"{min(images):,} to {max(images):,} images, not as many in each row. *Times as fast*: above 1 is faster than "
        f"plain Keras, below 1 slower; pair by pair, median (quartiles). PyTorch {_torch(kept)}: a plain loop without "
        "metrics in a process of its own, as a ratio of medians; it starts from PyTorch's own kind of random weights, "
        "so its accuracy need not agree. *Share of peak*: the network's floating-point "
        f"operations, counted from its layers, against those of large matrix products ({peak:.0f} GFLOP/s); plain, "
        f"then the best. *Accuracy* on images that were not trained on, after {kept['rows'][0]['epochs']} epochs of "
        f"part of the training images; range over {seeds} seeds: plain, the two settings, PyTorch. "
        f"Compiling takes {min(longer):.1f} to {max(longer):.1f} s more before the first step. XLA against "
        f"`steps_per_execution` alone: {against}. {_machine(kept)}"
    )
    return "\n".join(text)


WAYS = ("plain", "steps", "steps and XLA")


def _ratio(way):
    low, high = way["ratio_quartiles"]
    return f"{way['ratio']:.2f} ({low:.2f}–{high:.2f})"


def _span(values):
    return f"{min(values):.3f}–{max(values):.3f}"


def _torch(kept):
    return next((row["torch"]["version"].partition("+")[0] for row in kept["rows"] if "torch" in row), "")


def _machine(kept):
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    return f"{kept['machine']}; {versions}.{record.said_changed(kept)}"


def studies():
    """Studies against plain loops."""
    lines = []
    for part in ("study", "reproduction"):
        kept = record.read(part)
        if kept:
            plain, ours = (statistics.median(row[name] for row in kept["rows"]) for name in ("plain", "recorded"))
            ratios = " and ".join(f"**{row['ratio']:.2f}**" for row in kept["rows"])
            each = "each time" if len(kept["rows"]) > 1 else "once"
            lines.append(
                f"- {kept['rows'][0]['study']}: a plain loop {plain:.0f} s, the study {ours:.0f} s, "
                f"ratio {ratios} ({len(kept['rows'])} × measured, {each} in turn).{record.said_changed(kept)}"
            )
    return "\n".join(lines) or "Not measured yet: `labs bench study`."


def labs():
    """Seconds and memory of each lab."""
    kept = record.read("labs")
    if kept is None:
        return "Not measured yet: `labs bench labs`."
    names = [name.removeprefix("seconds, ") for name in kept["rows"][0] if name.startswith("seconds, ")]
    head = ["lab", *(f"{what}, {name}" for name in names for what in ("seconds", "peak MB"))]
    return record.table(head, [[row[name] for name in head] for row in kept["rows"]]) + f"\n\n{_machine(kept)}"


def growth_figure(path=FIGURE):
    """Draw how the cost grows."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    from labkit import plots

    kept = record.read("growth")
    with mpl.rc_context():
        plots.use_style()
        figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
        for ax, (axis, (xlabel, ylabel)) in zip(axes.flat, TITLES.items(), strict=True):
            points = [row for row in kept["rows"] if row["axis"] == axis]
            for cores in sorted({row["cores"] for row in points}):
                values, seconds = zip(*((r["value"], r["seconds"]) for r in points if r["cores"] == cores), strict=True)
                label = f"{cores} core{'s' * (cores > 1)}"
                ax.loglog(values, seconds, f"{plots.MARKERS[cores - 1]}-", color=plots.PALETTE[cores - 1], label=label)
            last = [value / values[-1] * seconds[-1] for value in values]
            ax.loglog(values, last, ":", color=plots.BLACK, linewidth=1, label="proportional")
            ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(min(row["seconds"] for row in points) / 1.5, None))
            ax.set_xticks(values, [f"{value:,}" for value in values], rotation=30)
            ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            for each in (ax.xaxis, ax.yaxis):
                each.set_minor_locator(ticker.NullLocator())
        axes.flat[0].legend()
        figure.savefig(path, dpi=100, metadata={"Software": None})
        plt.close(figure)


def growth():
    """The figure of how the cost grows, and where it stops being proportional."""
    kept = record.read("growth")
    if kept is None:
        return "Not measured yet: `labs bench growth`."
    lines = [f"![{ALT}](benchmarks/results/{FIGURE.name})", ""]
    for axis, text in WHY.items():
        points = [(row["value"], row["seconds"]) for row in kept["rows"] if row["axis"] == axis and row["cores"] == 1]
        (a, first), (b, second), (y, before), (z, last) = *points[:2], *points[-2:]
        low, high = (math.log(q / p) / math.log(n / m) for m, n, p, q in ((a, b, first, second), (y, z, before, last)))
        lines.append(
            f"- **{axis.capitalize()}**: from {a:,} to {b:,} the time grows with the power {low:.1f}, from {y:,} to "
            f"{z:,} with {high:.1f}. {text}"
        )
    return "\n".join([*lines, "", f"Powers between neighbouring points, with one core. {_machine(kept)}"])


WHY = {
    "images": "Every call of `fit` costs something before its first step: an iterator, and calls from Python.",
    "width": "Narrow layers cost no more than a step's fixed price. Between wide ones the weights are a product of two "
    "widths, which tends to the power two; there a second core helps.",
    "depth": "The layer that reads the pixels, and the loss, are there once; each further layer adds the same.",
    "seeds": "Workers take seconds to start, whatever they train. With one core per run, further cores pay from a few "
    "seeds on.",
}


def faults():
    """Faults tried and survived."""
    kept = record.read("faults")
    if kept is None:
        return "Not measured yet: `labs bench faults`."
    rows = [[row["fault"], row["tried"], row["survived"], row["how"]] for row in kept["rows"]]
    total = [sum(row[name] for row in kept["rows"]) for name in ("tried", "survived")]
    text = record.table(["fault", "tried", "survived", "what survived means"], [*rows, ["all", *total, ""]])
    return f"{text}\n\n{_machine(kept)}"


def installations():
    """Pythons and package versions that were tried."""
    kept = record.read("installations")
    if kept is None:
        return "Not measured yet: `labs bench installations`."
    names = list(kept["rows"][0])
    text = record.table(names, [[row[name] for name in names] for row in kept["rows"]])
    return text + (f"\n\n{said}" if (said := record.said_changed(kept).strip()) else "")


def claims():
    """Every lab's claims under other seeds: the short form."""
    lines = stress.read()
    rows = [
        [*(row[name] for name in ("lab", "data", "passes", "claims", "varied", "failed")), _margin(row["margin"])]
        for row in stress.by_lab(lines)
        if row["claims"]
    ]
    if not rows:
        return "Not run yet: `labs stress`."
    text = record.table(["lab", "data", "passes", "claims", "varied", "failures", "smallest margin"], rows)
    failed = sum(row[5] for row in rows)
    return (
        f"{text}\n\nFailures in all: {failed}. *Varied*: claims whose margin differed between passes; most others are "
        "about recorded studies, counts and equalities, which no seed of a lab changes. A margin near 0 need not mean "
        "danger: it is also that of a tie where a claim says \"or the same\", of two constants, or of a limit that "
        f"nothing can pass. Some claims are made on MNIST only.{_nearest(lines)}"
        f"{_memory(lines)}"
    )


def _nearest(lines):
    """The claims that a seed brings nearest to being false, with how near."""
    varied = [one for one in stress.by_claim(lines) if one["varied"] and one["margin"] is not None]
    varied = sorted(varied, key=lambda one: one["margin"])[:NEAREST]
    each = [f"- {one['lab']}: {one['sentence']}. {_margin(one['margin'])} ({one['where']})" for one in varied]
    return "\n".join([" Of those that vary, the nearest to being false:\n", *each]) if each else ""


NEAREST = 5


def _memory(lines):
    """How a kernel's memory grew from the first pass to the largest."""
    rows = [row for row in stress.by_lab(lines) if row["passes"] == stress.PASSES and row["claims"]]
    said = []
    for data in ("MNIST", "digits"):
        each = ", ".join(
            f"{row['lab']} from {row['held_mb'][0]:,} to {max(row['held_mb']):,}"
            for row in rows
            if row["data"] == data and None not in row["held_mb"]
        )
        said += [f"on {'the ' * (data == 'digits')}{data} {each}"] * bool(each)
    about = f"Memory of a kernel, in MB, after the first of {stress.PASSES} passes, and the most after a later one: "
    return f"\n\n{about}{'; '.join(said)}." if said else ""


def all_claims():
    """Every claim's smallest margin: the long form, a file of its own."""
    rows = [
        [
            *(one["lab"], f"`{one['claim']}`", one["sentence"].replace("|", "\\|"), one["runs"], one["failed"]),
            *(_margin(one["margin"]), one["where"]),
        ]
        for one in stress.by_claim(stress.read())
    ]
    head = ["lab", "cell/claim", "claim", "runs", "failures", "smallest margin", "where"]
    about = (
        "# Every claim, under other seeds\n\nMade by `labs stress` and `labs links`. The margin of `a > b` is (a − b) "
        "divided by the larger of the two, ignoring signs: with 0.1, a tenth less would make the claim false. Of the "
        "runs, the smallest is shown, and where it occurred. *1*: one side was 0, or next to nothing beside the other. "
        "For equality within a tolerance, the margin is the part of the tolerance that is left. "
        "*Yes or no*: the claim compares no sizes.\n\n"
    )
    return about + (record.table(head, rows) if rows else "Not run yet.") + "\n"


def _margin(value):
    return "yes or no" if value is None else f"{value:.2g}"


BLOCKS = {
    "speed": speed,
    "studies": studies,
    "seconds of labs": labs,
    "growth": growth,
    "faults": faults,
    "installations": installations,
    "claims": claims,
}
