"""The figures of the course. Each plot draws into `ax`, by default into a new figure, and returns the axes.

Notebooks store an alternative text with each figure, for readers who cannot see it. Each plot adds a sentence that says
what is drawn, and never a measured number; `describe` sets another in its place.
"""

import html
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import LabError

if TYPE_CHECKING:
    import keras
    import pandas as pd

# Okabe and Ito (2008), "Color Universal Design": colours that colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000",
)  # fmt: skip
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
VERDICTS = (  # colour, marker
    ("better", GREEN, "^"), ("worse", VERMILION, "v"), ("not resolved", BLACK, "o"), ("identical", BLACK, "|"),
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DIAGNOSIS = (  # column of a diagnosis, title, scale, which layer stands for all of one depth
    ("spread", "spread of outputs over images", "log", "last"),
    ("saturated", "share of saturated outputs (dotted: dead units)", "linear", "activation"),
    ("weight_gradient", "gradient norm w.r.t. weights", "log", "kernel"),
    ("output_gradient", "gradient norm w.r.t. outputs", "log", "last"),
    ("update_ratio", "norm of update / norm of parameters", "log", "kernel"),
)
SIDE = 28  # pixels along each edge of an image
ZEROS = 0.16  # height of the strip for values of 0 below a logarithmic axis, as a share of the axes


def use_style() -> None:
    """Set the course's look for all figures, and let notebooks store their alternative text."""
    from IPython import get_ipython

    # A first import writes "building the font cache" to stderr; it is of no use to a student.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    plt.rc("axes", prop_cycle=plt.cycler(color=PALETTE), grid=True, titlesize="medium")
    plt.rc("axes.spines", right=False, top=False)
    plt.rc("figure", dpi=90, figsize=(7, 4), max_open_warning=0)
    plt.rc("font", size=11)
    plt.rc("grid", alpha=0.3)
    plt.rc("image", cmap="gray_r")
    plt.rc("legend", frameon=False)
    plt.rc("lines", linewidth=2)
    shell = get_ipython()
    if getattr(shell, "kernel", None) is None:
        return
    # JupyterLab and nbconvert read an alternative text from HTML alone, whatever the metadata of an image/png says.
    shell.run_line_magic("matplotlib", "inline")
    formatters = shell.display_formatter.formatters
    for formatter in formatters.values():  # else each figure would be stored twice, or more often
        formatter.pop(plt.Figure, None)
    formatters["text/html"].for_type(plt.Figure, _as_html)
    formatters["text/plain"].for_type(plt.Figure, lambda figure, printer, cycle: printer.text(alt_text(figure)))


def row(columns: int, width: float | None = None, height: float = 4) -> list[plt.Axes]:
    """Make empty axes side by side.

    Parameters
    ----------
    columns : int
    width, height : float, optional
        Of the whole row, in inches; by default as wide as JupyterLab shows without shrinking.
    """
    _, axes = plt.subplots(1, columns, figsize=(width or min(10, 5 * columns), height), layout="constrained")
    return list(np.atleast_1d(axes))


def describe(ax: plt.Axes, sentence: str) -> None:
    """Set the alternative text of `ax`, in place of the plot's own. A figure's joins those of its axes.

    Parameters
    ----------
    ax : matplotlib.pyplot.Axes
        Several sentences on one axes add up.
    sentence : str
        What a reader is to see, not only what is drawn: which curve lies above which, where one turns.
    """
    _alt(ax, sentence, "given")


def _alt(ax, sentence, kind="usual"):
    texts = ax.figure.__dict__.setdefault("labkit_alt", {}).setdefault(ax, {"given": [], "usual": []})[kind]
    if sentence not in texts:
        texts.append(sentence)


def alt_text(figure: plt.Figure) -> str:
    """Return the alternative text of a figure; where no sentence was set, its titles and axis labels."""
    texts = [one["given"] or one["usual"] for one in getattr(figure, "labkit_alt", {}).values()]
    if sentences := list(dict.fromkeys(sentence for some in texts for sentence in some)):
        return " ".join(sentences)
    parts = [", ".join(filter(None, (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))) for ax in figure.axes]
    return "Figure: " + ("; ".join(filter(None, parts)) or "no title or labels")


def digits(
    images: ArrayLike, titles: Sequence | None = None, columns: int = 10, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw images side by side.

    Parameters
    ----------
    images : array, shape (n, 28, 28), (n, 784) or (n, 28, 28, 1)
        Pixels of any range.
    titles : sequence of length n, optional
        Short texts or numbers to write above the images.
    columns : int
        Images in a row.

    Raises
    ------
    LabError
        Where the images have another shape, or the titles another length.
    """
    images = np.asarray(images)
    if images.ndim < 2 or not len(images) or images[0].size != SIDE * SIDE:
        raise LabError(f"plots.digits draws images of 28 x 28 = 784 pixels; this array has shape {images.shape}.")
    if titles is not None and len(titles) != len(images):
        raise LabError(f"plots.digits got {len(images)} images but {len(titles)} titles.")
    images = images.reshape(-1, SIDE, SIDE)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    head = 2 if titles is None else 3 + 7 * max(str(title).count("\n") + 1 for title in titles)
    if ax is None:
        inches = 0.95 if columns > 5 else 1.4  # per image
        _, ax = plt.subplots(figsize=(columns * inches, rows * inches * (SIDE + head) / SIDE))
    # One large image, with a margin of 2 between columns and `head` free above each row for the titles.
    sheet = np.full((rows * (SIDE + head), columns * (SIDE + 2)), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (SIDE + head) + head, (i % columns) * (SIDE + 2) + 1
        sheet[top : top + SIDE, left : left + SIDE] = image
        if titles is not None:
            ax.text(left + SIDE / 2, top - 1, str(titles[i]), ha="center", va="bottom", fontsize=10)
    ax.imshow(sheet, interpolation="nearest")
    ax.set_axis_off()
    _alt(ax, f"{len(images)} images of handwritten digits in {rows} row{'s' if rows > 1 else ''}.")
    return ax


def history(runs: "keras.callbacks.History | Mapping", metric: str = "loss", ax: plt.Axes | None = None) -> plt.Axes:
    """Draw training and validation curves over the epochs, with a ring around each run's best validation epoch.

    Parameters
    ----------
    runs : keras.callbacks.History, its dict of lists, or dict of label -> either
        One run, or several to compare.
    metric : str
        What was recorded. Lowest is best for a loss or cross-entropy, highest for anything else.

    Raises
    ------
    LabError
        Where there is no run, or `metric` was not recorded.
    """
    ax = ax or row(1)[0]
    runs = getattr(runs, "history", runs)
    if not runs:
        raise LabError("plots.history got no run to draw.")
    if all(isinstance(curve, list) for curve in runs.values()):
        runs = {"": runs}
    named = {label: getattr(run, "history", run) for label, run in runs.items()}
    several = len(named) > 1
    best = min if "loss" in metric or "entropy" in metric else max
    for i, (label, curves) in enumerate(named.items()):
        if metric not in curves:
            raise LabError(f"No metric {metric!r} was recorded; there are {', '.join(sorted(curves))}.")
        # One run: a colour for training and one for validation. Several: a colour each, training dashed.
        train_colour, valid_colour = (PALETTE[i % len(PALETTE)],) * 2 if several else (BLUE, VERMILION)
        prefix = f"{label}, " if several else ""
        epochs = np.arange(1, len(curves[metric]) + 1)
        marker = "o" if len(epochs) == 1 else None
        ax.plot(epochs, curves[metric], "--", marker=marker, color=train_colour, label=f"{prefix}train")
        if valid := curves.get(f"val_{metric}"):
            ax.plot(epochs, valid, marker=marker, color=valid_colour, label=f"{prefix}validation")
            at = valid.index(best(valid))
            ax.plot(epochs[at], valid[at], "o", markersize=9, markerfacecolor="none", color=valid_colour)
    if any(f"val_{metric}" in curves for curves in named.values()):
        ax.plot([], [], "o", markersize=9, markerfacecolor="none", color=BLACK, label="best epoch")
    ax.set(xlabel="epoch", ylabel=metric)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(fontsize="small")
    of = " of " + ", ".join(named) if several else ""
    _alt(ax, f"Line plot of training and validation {metric} against epoch{of}.")
    return ax


def spread(values: Mapping[str, ArrayLike], name: str, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a strip plot of repeated runs: a row of dots for each setting, with a bar at the row's mean.

    Parameters
    ----------
    values : dict of label -> list of float
        A number for each run.
    name : str
        What the numbers are, for the axis.

    Raises
    ------
    LabError
        Where a label has no runs.
    """
    ax = ax or row(1, width=7, height=1.2 + 0.45 * len(values))[0]
    for i, (label, runs) in enumerate(values.items()):
        if not len(runs):
            raise LabError(f"plots.spread got no runs for {label!r}.")
        colour = PALETTE[i % len(PALETTE)]
        ax.plot(runs, [i] * len(runs), "o", color=colour, alpha=0.6)
        ax.plot([np.mean(runs)] * 2, [i - 0.3, i + 0.3], color=colour)
    ax.set(xlabel=name, yticks=range(len(values)), yticklabels=values)
    ax.locator_params(axis="x", nbins=5)  # numbers that lie close together are long
    ax.set_ylim(len(values) - 0.4, -0.6)  # the first row on top
    ax.grid(visible=False, axis="y")
    _alt(ax, f"Dots: {name} of each run of {', '.join(values)}; bars: their means.")
    return ax


def intervals(comparisons: "pd.DataFrame", ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a forest plot: a row per comparison, a dot at the difference, a bar over its interval, a line at 0.

    Parameters
    ----------
    comparisons : pandas.DataFrame
        What `stats.compare` returns. Verdicts differ in colour and in shape.

    Raises
    ------
    LabError
        Where there are no comparisons, or where it is another table.
    """
    needed = ["setting", "baseline", "difference", "low", "high", "verdict"]
    if missing := [name for name in needed if name not in comparisons]:
        raise LabError(f"plots.intervals draws what stats.compare returns; this has no {', '.join(missing)}.")
    if not len(comparisons):
        raise LabError("plots.intervals got no comparisons to draw.")
    ax = ax or row(1, width=7, height=1.4 + 0.4 * len(comparisons))[0]
    ax.axvline(0, color=BLACK, linewidth=1, zorder=1)
    for verdict, colour, marker in VERDICTS:
        rows = np.flatnonzero(comparisons["verdict"] == verdict)
        if len(rows):
            low, middle, high = (comparisons[name].to_numpy()[rows] for name in ("low", "difference", "high"))
            ax.hlines(rows, low, high, color=colour)
            ax.plot(middle, rows, marker, color=colour, markersize=8, markerfacecolor=colour, label=verdict)
    named = comparisons.loc[:, :"setting"]  # the columns `within`, then the setting
    labels = [", ".join(map(str, values)) for values in named.itertuples(index=False)]
    minus, *others = dict.fromkeys(comparisons["baseline"])
    if others:
        minus = "baseline"
        labels = [f"{label} minus {other}" for label, other in zip(labels, comparisons["baseline"], strict=True)]
    metric = comparisons.attrs.get("metric", "metric").replace("_", " ")
    ax.set(xlabel=f"difference in {metric}, setting minus {minus}", yticks=range(len(labels)), yticklabels=labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)  # the first row on top
    ax.locator_params(axis="x", nbins=5)  # small differences have long numbers
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(VERDICTS), borderaxespad=0, fontsize="small")
    said = f"difference in {metric} and its interval, setting minus {minus}, for {'; '.join(labels)}"
    _alt(ax, f"Dots with bars: {said}. A line marks no difference.")
    return ax


def diagnosis(
    diagnoses: "Diagnosis | Mapping[str, Diagnosis]",  # noqa: F821 - of labkit.diagnose, which plots must not import
    axes: Iterable[plt.Axes] | None = None,
) -> list[plt.Axes]:
    """Draw what `diagnose` found as small plots over the depth, a line for each model.

    Parameters
    ----------
    diagnoses : Diagnosis, or dict of label -> Diagnosis
        Of one model, or of several to compare.
    axes : sequence of matplotlib.pyplot.Axes, optional
        4 of them, or 5 where update ratios are known.

    Raises
    ------
    LabError
        Where there are no diagnoses, or the number of axes is another.

    Notes
    -----
    Depth counts the layers with a kernel, so that models with and without normalization share an axis. Of the layers at
    one depth, the last one's output counts, and the weights of the one with the kernel.
    Values that a logarithmic axis cannot hold are marked: 0 by crosses in a grey strip below it, NaN and infinity by
    stars at the top.
    """
    several = isinstance(diagnoses, dict)
    named = {str(label): one for label, one in diagnoses.items()} if several else {"": diagnoses}
    if not named:
        raise LabError("plots.diagnosis got no diagnosis to draw.")
    panels = [panel for panel in DIAGNOSIS if any(panel[0] in one.layers for one in named.values())]
    given = axes is not None
    if not given:
        rows = -(-len(panels) // 2)
        _, grid = plt.subplots(rows, 2, figsize=(9, 2.5 * rows + 0.5), layout="constrained", sharex=True)
        for spare in grid.flat[len(panels) :]:
            spare.set_axis_off()
        axes = grid.flat[: len(panels)]
    axes = list(axes)
    if len(axes) != len(panels):
        raise LabError(f"plots.diagnosis draws {len(panels)} plots; it got {len(axes)} axes.")
    styles = {
        label: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
        for i, label in enumerate(named)
    }
    marks = set().union(*(_small_plot(ax, named, styles, panel) for ax, panel in zip(axes, panels, strict=True)))
    for ax in axes[-2:]:
        ax.set_xlabel("depth (layers with a kernel)")
        ax.xaxis.set_tick_params(labelbottom=True)
    keys = [plt.Line2D([], [], label=label, **styles[label]) for label in named if several]
    keys += [plt.Line2D([], [], label=text, marker=sign, linestyle="", color=BLACK) for text, sign in sorted(marks)]
    if keys and given:
        axes[0].legend(handles=keys, fontsize="small")
    elif keys:
        columns = min(4, max(1, 100 // (max(len(key.get_label()) for key in keys) + 6)))
        axes[0].figure.legend(handles=keys, loc="outside upper center", ncols=columns, fontsize="small")
    of = " of " + ", ".join(named) if several else ""
    _alt(axes[0], f"Small plots over the depth{of}: {'; '.join(title for _, title, _, _ in panels)}.")
    return axes


def _small_plot(ax, named, styles, panel):
    """Draw one column of several diagnoses over the depth. Returns the extra marks it has used, as (text, sign)."""
    (column, title, scale, which), marks = panel, set()
    for i, (label, one) in enumerate(named.items()):
        if column not in one.layers:
            continue
        values, style = _at_depths(one.layers, column, which), styles[label]
        if scale == "linear":
            ax.plot(values.index, values, **style)
            dead = _at_depths(one.layers, "dead", which)
            ax.plot(dead.index, dead, ":", color=style["color"])
            continue
        shown = values.where(np.isfinite(values) & (values > 0))
        ax.plot(shown.index, shown, **style)
        for text, sign, depths, height in (
            ("exactly 0", "x", values.index[values == 0], ZEROS * (i + 0.5) / len(named)),
            ("not finite", "*", values.index[~np.isfinite(values)], 0.95 - 0.06 * i),
        ):
            if len(depths):
                marks.add((text, sign))
                ax.plot(depths, [height] * len(depths), sign, color=style["color"], transform=ax.get_xaxis_transform())
    ax.set_title(title)
    if scale == "linear":
        ax.set_ylim(-0.04, 1.04)
    else:
        _log_axis(ax, zeros=("exactly 0", "x") in marks)
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return marks


def _at_depths(layers, column, which):
    """A column of a diagnosis as a Series over the depth, of the layer that stands for all of one depth.

    which: "last"; "kernel", which is the first; "activation", the last one with a value.
    """
    layers = layers[layers["depth"] > 0]
    if which == "activation":
        return layers.groupby("depth")[column].last()
    chosen = layers.drop_duplicates("depth", keep="last" if which == "last" else "first")
    if which == "kernel":
        chosen = chosen[chosen["parameters"] > 0]  # frozen ones have no gradient
    return chosen.set_index("depth")[column]


def _log_axis(ax, zeros):
    """A logarithmic y axis on which at least two powers of ten are marked, with room for marks at both ends.

    zeros: whether there are values of 0, which get a strip of their own below it.
    """
    values = np.concatenate([line.get_ydata() for line in ax.lines if line.get_transform() == ax.transData])
    values = values[np.isfinite(values)]
    low, high = np.log10([values.min(), values.max()]) if len(values) else (0, 0)
    if np.floor(high) - np.ceil(low) < 1:
        low, high = np.floor(low), np.floor(low) + max(1, np.ceil(high) - np.floor(low))
    margin = 0.08 * (high - low)
    bottom = low - margin
    if zeros:
        bottom -= ZEROS / (1 - ZEROS) * (high + margin - bottom)
        ax.add_patch(plt.Rectangle((0, 0), 1, ZEROS, transform=ax.transAxes, color=BLACK, alpha=0.1, linewidth=0))
        ax.text(0.995, ZEROS / 2, "0", transform=ax.transAxes, ha="right", va="center", fontsize="small")
    ax.set(yscale="log", ylim=(10**bottom, 10 ** (high + margin)))


def live() -> "keras.callbacks.Callback":
    """Make a callback that redraws the training and validation loss after each epoch.

    It draws only in a notebook, and not with LABKIT_LIVE=0 in the environment. When training ends, it clears its
    figure, so that `history` can take its place.
    """
    import keras
    from IPython import get_ipython
    from IPython.display import display

    watched = getattr(get_ipython(), "kernel", None) is not None and os.environ.get("LABKIT_LIVE") != "0"

    class LivePlot(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.curves, self.display = {}, None

        def on_epoch_end(self, epoch, logs=None):
            for name, value in (logs or {}).items():
                self.curves.setdefault(name, []).append(float(value))
            if not watched:
                return
            figure = history(self.curves).figure
            plt.close(figure)  # else the notebook would draw it a second time at the end of the cell
            if self.display is None:
                self.display = display(figure, display_id=True)
            else:
                self.display.update(figure)

        def on_train_end(self, logs=None):
            if self.display is not None:
                self.display.update({"text/plain": ""}, raw=True)

    return LivePlot()


def confusion(y_true: ArrayLike, y_pred: ArrayLike, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a confusion matrix: counts of each true digit (row) that was predicted as each digit (column).

    Parameters
    ----------
    y_true, y_pred : array of int, shape (n,)
        Digits from 0 to 9. Mistakes are coloured by their share of the row.

    Raises
    ------
    LabError
        Where the two have different shapes or are not digits, for example probabilities.
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.ndim != 1 or y_true.shape != y_pred.shape:
        raise LabError(
            f"plots.confusion compares two arrays of n digits; these have shapes {y_true.shape} and {y_pred.shape}. "
            "Probabilities become digits with .argmax(axis=1)."
        )
    if not np.isin([y_true, y_pred], range(10)).all():
        raise LabError("plots.confusion compares digits, which are whole numbers from 0 to 9.")
    y_true, y_pred = y_true.astype(int), y_pred.astype(int)
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (y_true, y_pred), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)  # the right answers would drown the mistakes
    if ax is None:
        _, ax = plt.subplots(figsize=(6.2, 5.6), layout="constrained")
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=max(share.max(), 0.01))
    for true, pred in np.ndindex(10, 10):
        if counts[true, pred]:
            colour = "white" if share[true, pred] > 0.6 * share.max() else "black"
            weight = "bold" if true == pred else "normal"
            ax.text(pred, true, counts[true, pred], ha="center", va="center", fontsize=9, weight=weight, color=colour)
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted digit", ylabel="true digit")
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="share of the true digit's images", shrink=0.8)
    _alt(ax, "Confusion matrix: a row for each true digit, a column for each predicted digit.")
    return ax


def mistakes(
    images: ArrayLike, y_true: ArrayLike, probabilities: ArrayLike, n: int = 10, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw the misclassified images whose predicted digit has the highest probability, the highest first.

    Parameters
    ----------
    images : array, shape (m, 28, 28), (m, 784) or (m, 28, 28, 1)
    y_true : array of int, shape (m,)
    probabilities : array, shape (m, 10)
        As the model predicts them for the digits 0 to 9.
    n : int
        Images to draw at most.

    Raises
    ------
    LabError
        Where `probabilities` has another shape.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
    if probabilities.shape != (len(y_true), 10):
        raise LabError(
            f"plots.mistakes wants one row of 10 probabilities per image, shape ({len(y_true)}, 10); "
            f"this array has shape {probabilities.shape}."
        )
    y_pred = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(y_pred != y_true)
    wrong = wrong[np.argsort(-probabilities[wrong, y_pred[wrong]], kind="stable")][:n]
    if not len(wrong):
        ax = ax or row(1, height=1)[0]
        ax.text(0.5, 0.5, "no mistakes", ha="center", va="center")
        ax.set_axis_off()
        _alt(ax, "No mistakes to show.")
        return ax
    titles = [f"true {y_true[i]}, predicted {y_pred[i]}\n{probabilities[i, y_pred[i]]:.1%} sure" for i in wrong]
    ax = digits(np.asarray(images)[wrong], titles, columns=5, ax=ax)
    _alt(ax, "The mistakes of which the model was surest, with the true and the predicted digit.")
    return ax


def _as_html(figure):
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, fmt="png", base64=True)
    alt = html.escape(alt_text(figure), quote=True)
    return f'<img alt="{alt}" style="max-width: 100%" src="data:image/png;base64,{png.strip()}">' if png else None
