"""Every figure of the course: data first, `ax=None` last, the axes returned.

Each function adds a sentence of alternative text to its figure (see `describe`), which notebooks store with the image
for readers who cannot see it. It says what the figure shows, and never a measured number.
"""

import html
import logging
import os

import matplotlib.pyplot as plt
import numpy as np

from labkit.errors import LabError

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


def use_style():
    """Set the course's look for all figures, and let notebooks store their alternative text."""
    # A first import writes "building the font cache" to stderr; it is of no use to a student.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=PALETTE),
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": "medium",
            "figure.dpi": 90,
            "figure.figsize": (7, 4),
            "figure.max_open_warning": 0,
            "font.size": 11,
            "grid.alpha": 0.3,
            "image.cmap": "gray_r",
            "legend.frameon": False,
            "lines.linewidth": 2,
        }
    )
    _show_with_alt_text()


def row(columns, width=None, height=4):
    """A row of empty axes side by side. Returns a list of `columns` matplotlib Axes.

    width, height: of the whole row, in inches; the width defaults to what JupyterLab shows without shrinking.
    """
    _, axes = plt.subplots(1, columns, figsize=(width or min(10, 5 * columns), height), layout="constrained")
    return list(np.atleast_1d(axes))


def describe(ax, sentence):
    """Say in a sentence what `ax` shows, as alternative text of its figure, in place of the usual sentence.

    Say what a reader is to see, not only what is drawn: which curve lies above which, where one turns. Several
    sentences on one axes add up.
    """
    _alt(ax, "given", sentence)


def _describe_as_usual(ax, sentence):
    """The sentence of one of this module's plots, which `describe` replaces."""
    _alt(ax, "usual", sentence)


def _alt(ax, kind, sentence):
    texts = ax.figure.__dict__.setdefault("labkit_alt", {}).setdefault(ax, {"given": [], "usual": []})[kind]
    if sentence not in texts:
        texts.append(sentence)


def alt_text(figure):
    """The alternative text of a figure: what `describe` was given, else its titles and axis labels."""
    texts = [one["given"] or one["usual"] for one in getattr(figure, "labkit_alt", {}).values()]
    if sentences := list(dict.fromkeys(sentence for some in texts for sentence in some)):
        return " ".join(sentences)
    parts = [", ".join(filter(None, (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))) for ax in figure.axes]
    return "Figure: " + ("; ".join(filter(None, parts)) or "no title or labels")


def digits(images, titles=None, columns=10, ax=None):
    """Draw images side by side in rows of `columns`.

    images: (n, 28, 28), (n, 784) or (n, 28, 28, 1), any pixel range.
    titles: n short texts to stand above the images, or None.
    Raises LabError where the images have another shape or the titles another number.
    """
    images = np.asarray(images)
    if images.ndim < 2 or not len(images) or images[0].size != SIDE * SIDE:
        raise LabError(f"plots.digits draws images of 28 x 28 = 784 pixels; this array has shape {images.shape}.")
    if titles is not None and len(titles) != len(images):
        raise LabError(f"plots.digits got {len(images)} images but {len(titles)} titles.")
    images = images.reshape(-1, SIDE, SIDE)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    head = 3 + 7 * max((str(title).count("\n") + 1 for title in titles), default=0) if titles is not None else 2
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
    _describe_as_usual(ax, f"{len(images)} images of handwritten digits in {rows} row{'s' if rows > 1 else ''}.")
    return ax


def history(runs, metric="loss", ax=None):
    """Draw training and validation curves over the epochs, with each run's best validation epoch marked.

    runs: a Keras History, its dict of lists, or a dict of label -> either, to compare several.
    metric: "loss", "accuracy" or any other key that was recorded.
    The best epoch is the one with the lowest loss or cross-entropy, or the highest value of any other metric.
    Raises LabError, naming the metrics there are, if `metric` was not recorded.
    """
    ax = ax or row(1)[0]
    named = _as_dict_of_histories(runs)
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
    _describe_as_usual(ax, f"Line plot of training and validation {metric} against epoch{of}.")
    return ax


def spread(values, name, ax=None):
    """Draw repeated runs as dots, one row for each setting, with a bar at each row's mean.

    values: dict of label -> list of numbers, one per run. name: what the numbers are, for the axis.
    Raises LabError where a label has no runs.
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
    _describe_as_usual(ax, f"Dots: {name} of each run of {', '.join(values)}; bars: their means.")
    return ax


def intervals(comparisons, ax=None):
    """Draw what `stats.compare` returns: a row per comparison, a dot at the difference, a bar over its interval.

    comparisons: the DataFrame. Verdicts differ in colour and in shape, and the line at 0 means no difference.
    Raises LabError where there are no comparisons, or where it is another table.
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
    baselines = list(dict.fromkeys(comparisons["baseline"]))
    named = list(comparisons.columns[: list(comparisons.columns).index("setting") + 1])  # `within`, then the setting
    labels = [", ".join(map(str, values)) for values in zip(*(comparisons[name] for name in named), strict=True)]
    minus = baselines[0]
    if len(baselines) > 1:
        minus = "baseline"
        labels = [f"{label} minus {other}" for label, other in zip(labels, comparisons["baseline"], strict=True)]
    metric = comparisons.attrs.get("metric", "metric").replace("_", " ")
    ax.set(xlabel=f"difference in {metric}, setting minus {minus}", yticks=range(len(labels)), yticklabels=labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)  # the first row on top
    ax.locator_params(axis="x", nbins=5)  # small differences have long numbers
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(VERDICTS), borderaxespad=0, fontsize="small")
    _describe_as_usual(ax, f"Dots with bars: difference in {metric} and its interval, setting minus {minus}, for "
                 f"{'; '.join(labels)}. A line marks no difference.")  # fmt: skip
    return ax


def diagnosis(diagnoses, axes=None):
    """Draw what `diagnose` found as a panel of small plots over the depth, a line for each model.

    diagnoses: a Diagnosis, or a dict of label -> Diagnosis to compare several. Depth counts the layers with a kernel,
        so that models with and without normalization share an axis. Of the layers at one depth, the last one's output
        counts, and the weights of the one with the kernel. axes: 4 matplotlib Axes, or 5 where update ratios are known.
    Values that a logarithmic axis cannot hold are marked: crosses in a grey strip below it for 0, stars at the top for
    NaN and infinity. Returns the axes as a list.
    Raises LabError where there are no diagnoses, or the number of axes is another.
    """
    several = isinstance(diagnoses, dict)
    named = {str(label): one for label, one in diagnoses.items()} if several else {"": diagnoses}
    if not named:
        raise LabError("plots.diagnosis got no diagnosis to draw.")
    panels = [panel for panel in DIAGNOSIS if any(panel[0] in one.layers for one in named.values())]
    given = axes is not None
    axes = list(axes) if given else _panel_axes(len(panels))
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
    _describe_as_usual(axes[0], f"Small plots over the depth{of}: {'; '.join(title for _, title, _, _ in panels)}.")
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


def _panel_axes(count):
    """Axes for `count` small plots in two columns, as a list."""
    rows = -(-count // 2)
    _, grid = plt.subplots(rows, 2, figsize=(9, 2.5 * rows + 0.5), layout="constrained", sharex=True)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return list(grid.flat[:count])


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


def live(metric="loss"):
    """A Keras callback that redraws the training and validation curves after each epoch.

    It draws in a notebook that somebody watches, and clears its figure when training ends, so that `history` can
    take its place. Elsewhere, and with LABKIT_LIVE=0 in the environment, it does nothing.
    """
    import keras

    class LivePlot(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.curves, self.display = {}, None

        def on_epoch_end(self, epoch, logs=None):
            for name, value in (logs or {}).items():
                self.curves.setdefault(name, []).append(float(value))
            if not _is_watched():
                return
            from IPython.display import display

            figure = history(self.curves, metric).figure
            plt.close(figure)  # else the notebook would draw it a second time at the end of the cell
            if self.display is None:
                self.display = display(figure, display_id=True)
            else:
                self.display.update(figure)

        def on_train_end(self, logs=None):
            if self.display is not None:
                self.display.update({"text/plain": ""}, raw=True)

    return LivePlot()


def confusion(y_true, y_pred, ax=None):
    """Draw how often each true digit (row) was predicted as each digit (column).

    y_true, y_pred: (n,) whole numbers 0-9. Colour shows the share of the row; mistakes are written as counts.
    Raises LabError where the two have different shapes or are not digits, for example probabilities.
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
            dark = share[true, pred] > 0.6 * share.max()
            weight = "bold" if true == pred else "normal"
            ax.text(pred, true, counts[true, pred], ha="center", va="center", fontsize=9, fontweight=weight,
                    color="white" if dark and true != pred else "black")  # fmt: skip
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted digit", ylabel="true digit")
    ax.grid(visible=False)
    ax.figure.colorbar(image, ax=ax, label="share of the true digit's images", shrink=0.8)
    _describe_as_usual(ax, "Confusion matrix: a row for each true digit, a column for each predicted digit.")
    return ax


def mistakes(images, y_true, probabilities, n=10, ax=None):
    """Draw the n wrong answers that the model was surest of, the surest first.

    images: (m, 784) or (m, 28, 28). y_true: (m,) digits. probabilities: (m, 10), one row per image.
    Raises LabError where probabilities is not (m, 10).
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
        _describe_as_usual(ax, "No mistakes to show.")
        return ax
    titles = [f"true {y_true[i]}, predicted {y_pred[i]}\n{probabilities[i, y_pred[i]]:.1%} sure" for i in wrong]
    ax = digits(np.asarray(images)[wrong], titles, columns=5, ax=ax)
    _describe_as_usual(ax, "The mistakes of which the model was surest, with the true and the predicted digit.")
    return ax


def _as_dict_of_histories(runs):
    """label -> dict of metric -> list, whatever `history` was given."""
    runs = getattr(runs, "history", runs)
    if not runs:
        raise LabError("plots.history got no run to draw.")
    if all(isinstance(curve, list) for curve in runs.values()):
        return {"": runs}
    return {label: getattr(run, "history", run) for label, run in runs.items()}


def _is_watched():
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None and os.environ.get("LABKIT_LIVE") != "0"


def _show_with_alt_text():
    """In a notebook, show each figure as an HTML image with its alternative text, and as that text alone.

    JupyterLab and nbconvert read an alternative text from nowhere else, whatever the metadata of an image/png says.
    """
    from IPython import get_ipython

    shell = get_ipython()
    if getattr(shell, "kernel", None) is None:
        return
    shell.run_line_magic("matplotlib", "inline")
    formatters = shell.display_formatter.formatters
    for formatter in formatters.values():  # else each figure would be stored twice, or more often
        formatter.pop(plt.Figure, None)
    formatters["text/html"].for_type(plt.Figure, _as_html)
    formatters["text/plain"].for_type(plt.Figure, lambda figure, printer, cycle: printer.text(alt_text(figure)))


def _as_html(figure):
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, fmt="png", base64=True)
    alt = html.escape(alt_text(figure), quote=True)
    return f'<img alt="{alt}" style="max-width: 100%" src="data:image/png;base64,{png.strip()}">' if png else None
