"""The README's tables and figure, made from what the benchmarks have kept in benchmarks/results."""

import hashlib
import json
import math
import statistics
from pathlib import Path

import record
import training

import classroom
from labkit import stress

FIGURE = record.FOLDER / "growth.png"
CLAIMS = Path(__file__).with_name("claims.md")
ALT = (
    "Four panels with logarithmic axes: seconds of a fit of one epoch against images, width and depth, and seconds of "
    "a study against seeds, each with one core and with more; beside the curves a dotted line of proportional growth."
)
TITLES = {
    "images": ("images", "seconds of fit, one epoch"),
    "width": ("units in each of two layers", "seconds of fit, one epoch"),
    "depth": ("layers of 128 units", "seconds of fit, one epoch"),
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
        torch = _ratio_of_ranges(row["plain"], row["torch"]) if "torch" in row else "–"
        accuracy = ", ".join(_span(row[way]["accuracy"]) for way in (*WAYS, *["torch"] * ("torch" in row)))
        plain = f"{row['plain']['seconds']:.2f} s for {row['images']:,} images"
        rows.append([row["network"], plain, *ratios, torch, share, accuracy])
    faster = [f"{way}, times as fast" for way in ("`steps_per_execution=64`", "and `jit_compile=True`", "PyTorch")]
    text = [record.table(["network", "plain Keras", *faster, "share of peak", "accuracy"], rows), ""]
    peak = max(row["peak_gflops"] for row in kept["rows"])
    seeds = len(kept["rows"][0]["plain"]["accuracy"])
    longer = [row["steps and XLA"]["start"] - row["steps"]["start"] for row in kept["rows"]]
    against = "; ".join(f"{row['network']}: {_ratio(row['xla_against_steps'])}" for row in kept["rows"])
    text.append(
        "*Plain Keras*: the seconds of an epoch. *Times as fast*: above 1 is faster than plain Keras, below 1 slower; "
        f"pair by pair, median (quartiles). PyTorch {_torch(kept)}: a plain loop without metrics, in a process of its "
        "own and not in turn with the others, so a ratio of medians (the least and the most that the spreads of both "
        "allow: where 1 is between them, neither is known to be faster); it starts from PyTorch's own kind of random "
        "weights, so its accuracy need not agree. *Share of peak*: the network's floating-point operations in a median "
        f"epoch, counted from its layers, against those of large matrix products ({peak:.0f} GFLOP/s); plain, then the "
        f"best. *Accuracy* on images that were not trained on, after {kept['rows'][0]['epochs']} epochs of "
        f"part of the training images; range over {seeds} seeds: plain, the two settings, PyTorch. "
        f"Compiling takes {min(longer):.1f} to {max(longer):.1f} s more before the first step. XLA against "
        f"`steps_per_execution` alone: {against}. {_machine(kept)}"
    )
    return "\n".join(text)


WAYS = ("plain", "steps", "steps and XLA")


def _ratio(way):
    low, high = way["ratio_quartiles"]
    return f"{way['ratio']:.2f} ({low:.2f}–{high:.2f})"


def _ratio_of_ranges(plain, other):
    """How many times as fast: a ratio of medians, with the least and the most that both spreads allow."""
    low, high = (plain["spread"][i] / other["spread"][1 - i] for i in (0, 1))
    return f"{other['ratio']:.2f} ({low:.2f}–{high:.2f})"


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
            times = f"{len(kept['rows'])} times, in turn" if len(kept["rows"]) > 1 else "once"
            lines.append(
                f"- {kept['rows'][0]['study']}: a plain loop {plain:.0f} s, the study {ours:.0f} s, "
                f"ratio {ratios} (measured {times}).{record.said_changed(kept)}"
            )
    return "\n".join(lines) or "Not measured yet: `labs bench study`."


def labs():
    """Seconds and memory of each lab."""
    kept = record.read("labs")
    if kept is None:
        return "Not measured yet: `labs bench labs`."
    names = [name.removeprefix("seconds, ") for name in kept["rows"][0] if name.startswith("seconds, ")]
    head = ["lab", *(f"{what}, {name}" for name in names for what in ("seconds", "peak MB"))]
    table = record.table(head, [[row[name] for name in head] for row in kept["rows"]])
    changed = record.said_labs({row["lab"]: row.get("code") for row in kept["rows"]})
    return (
        f"{table}\n\nOne run each. *Peak MB*: the most that one lab's kernel held. {classroom.two_labs()}"
        f"{_machine(kept)}{changed}"
    )


def imports():
    """Seconds of the imports that a student waits for."""
    kept = record.read("imports")
    if kept is None:
        return "Not measured yet: `labs bench imports`."
    rows = [
        [row["import"], *(_milliseconds(row[name]) for name in ("seconds", "least", "most"))] for row in kept["rows"]
    ]
    return record.table(["import", "ms, median", "least", "most"], rows) + f"\n\n{_machine(kept)}"


def _milliseconds(seconds):
    return f"{1000 * seconds:,.0f}" if seconds >= 0.001 else f"{1000 * seconds:.1f}"


def growth_figure(path=FIGURE):
    """Draw how the cost grows."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    from labkit import plots

    kept = record.read("growth")
    about = {"Software": None, "Source": growth_digest()}
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
        figure.savefig(path, dpi=100, metadata=about)
        plt.close(figure)


def growth_digest():
    """A digest of the points that the figure shows; the figure carries it, so that an old one is noticed."""
    return hashlib.sha256(json.dumps(record.read("growth")["rows"]).encode()).hexdigest()[:16]


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
    about = (
        f"Each point is the best of three. What does not grow: {training.FIXED['images']:,} images, "
        f"{training.FIXED['depth']} layers, {training.FIXED['width']} units in each. Powers between neighbouring "
        "points, with one core."
    )
    return "\n".join([*lines, "", f"{about} {_machine(kept)}"])


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
    about = (
        "MNIST's place is taken by a megabyte of random images from a mirror on the same machine, so that a download "
        "can be killed, stalled or spoilt many times a minute; whole labs run on the digits."
    )
    return f"{text}\n\n{about} {_machine(kept)}"


def installations():
    """Pythons and package versions that were tried."""
    kept = record.read("installations")
    if kept is None:
        return "Not measured yet: `labs bench installations`."
    names = list(kept["rows"][0])
    text = record.table(names, [[row[name] for name in names] for row in kept["rows"]])
    about = (
        "On the digits, without the tests of style, of the set-up (which is what is tried here) and of each exercise's "
        "wrong answers."
    )
    return f"{text}\n\n{about} {kept['machine']}.{record.said_changed(kept)}"


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
        'danger: it is also that of a tie where a claim says "or the same", of two constants, or of a limit that '
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
    """How a kernel's memory grew while it ran a lab again and again, on MNIST, which is the larger data set."""
    found = stress.by_kernel([line for line in lines if line["claims"] and line["data"] == "MNIST"])
    if not found:
        return ""
    names = ["lab", "peak, first", "peak, later", "held, first", "held, middle", "held, last"]
    head = ["lab", "peak, first pass", "highest later peak", "held after the first"]
    head += [f"after the {stress.PASSES // 2}th", f"after the {stress.PASSES}th"]
    highest = max(max(row["peak, first"], row["peak, later"]) for row in found)
    about = (
        f"**Memory** of one kernel that runs all of a lab's cells {stress.PASSES} times on MNIST, in MB. A second pass "
        f"loads the images while those of the first are still there. Highest of all: {highest:,}."
    )
    return f"\n\n{about}\n\n{record.table(head, [[row[name] for name in names] for row in found])}"


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
    "imports": imports,
    "seconds of labs": labs,
    "growth": growth,
}
