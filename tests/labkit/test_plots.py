import inspect
import re
import subprocess
import sys

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

mpl.use("agg")
import matplotlib.pyplot as plt

from labkit import plots
from labkit.diagnose import Diagnosis
from labkit.errors import LabError
from labtools import run

RUN = {
    "loss": [1.0, 0.5, 0.3],
    "val_loss": [1.1, 0.4, 0.6],
    "accuracy": [0.5, 0.7, 0.9],
    "val_accuracy": [0.5, 0.8, 0.7],
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rings(ax):
    """The points that are marked as best, as (x, y)."""
    lines = [line for line in ax.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_history_marks_the_lowest_loss_and_the_highest_accuracy():
    assert rings(plots.history(RUN, "loss")) == [(2, 0.4)]
    assert rings(plots.history(RUN, "accuracy")) == [(2, 0.8)]


def test_history_says_train_and_validation():
    assert labels(plots.history(RUN)) == ["train", "validation", "best epoch"]


def test_history_of_several_runs_names_each():
    ax = plots.history({"wide": RUN, "narrow": RUN}, "accuracy")
    assert labels(ax) == ["wide, train", "wide, validation", "narrow, train", "narrow, validation", "best epoch"]
    assert len(rings(ax)) == 2


def test_history_without_validation_marks_nothing():
    ax = plots.history({"loss": [1.0, 0.5]})
    assert labels(ax) == ["train"]
    assert rings(ax) == []


def test_history_takes_what_fit_returns():
    class History:
        history = RUN

    assert rings(plots.history(History())) == [(2, 0.4)]
    assert len(rings(plots.history({"a": History(), "b": History()}))) == 2


def test_history_names_the_metrics_there_are():
    with pytest.raises(LabError, match="accuracy, loss"):
        plots.history(RUN, "precision")
    with pytest.raises(LabError, match="no run"):
        plots.history({})


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 784), (3, 28, 28, 1)])
def test_digits_draws_each_image_in_its_place(shape):
    images = np.zeros((3, 784))
    images[:, 0] = 1, 2, 3  # the upper left pixel of each
    sheet = plots.digits(images.reshape(shape), columns=2).images[0].get_array()
    found = {int(value): tuple(map(int, np.argwhere(sheet == value)[0])) for value in (1, 2, 3)}
    assert found[1][0] == found[2][0] < found[3][0], "two in the first row, the third below"
    assert found[1][1] == found[3][1] < found[2][1]


def test_digits_writes_the_titles():
    ax = plots.digits(np.zeros((2, 784)), [4, "nine"])
    assert [text.get_text() for text in ax.texts] == ["4", "nine"]


@pytest.mark.parametrize("images", [np.zeros((3, 100)), np.zeros(784), np.zeros((0, 784))])
def test_digits_refuses_what_is_no_image(images):
    with pytest.raises(LabError, match="784 pixels"):
        plots.digits(images)


def test_digits_refuses_a_wrong_number_of_titles():
    with pytest.raises(LabError, match="2 images but 1 titles"):
        plots.digits(np.zeros((2, 784)), ["one"])


def test_confusion_counts_true_digits_in_rows():
    ax = plots.confusion([3, 3, 3, 5], [3, 5, 5, 5])
    written = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert written == {(3, 3): "1", (3, 5): "2", (5, 5): "1"}
    assert ax.images[0].get_array()[3, 5] == pytest.approx(2 / 3)
    assert ax.get_ylabel() == "true digit"


def test_confusion_without_mistakes():
    assert plots.confusion([1, 2], [1, 2]).images[0].get_array().max() == 0


def test_confusion_refuses_probabilities():
    with pytest.raises(LabError, match="argmax"):
        plots.confusion([1, 2], np.zeros((2, 10)))


@pytest.mark.parametrize("digits", [[1, 10], [-1, 2], [0.5, 1]])
def test_confusion_refuses_what_is_no_digit(digits):
    with pytest.raises(LabError, match="from 0 to 9"):
        plots.confusion([1, 2], digits)


def test_mistakes_shows_the_surest_first():
    probabilities = np.full((4, 10), 0.01)
    for row, (digit, sure) in enumerate([(1, 0.6), (2, 0.9), (3, 0.95), (4, 0.7)]):
        probabilities[row, digit] = sure
    ax = plots.mistakes(np.zeros((4, 784)), [7, 8, 3, 9], probabilities)  # the third is right
    assert [text.get_text().split("\n")[0] for text in ax.texts] == [
        "true 8, predicted 2",
        "true 9, predicted 4",
        "true 7, predicted 1",
    ]


def test_mistakes_of_a_model_without_any():
    probabilities = np.eye(10)
    assert plots.mistakes(np.zeros((10, 784)), np.arange(10), probabilities).texts[0].get_text() == "no mistakes"


def test_mistakes_wants_probabilities():
    with pytest.raises(LabError, match=r"\(2, 10\)"):
        plots.mistakes(np.zeros((2, 784)), [1, 2], [1, 2])


def test_spread_draws_each_run_and_the_mean():
    ax = plots.spread({"a": [0.1, 0.3], "b": [0.5, 0.5]}, "accuracy")
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.1, 0.3], [0.2, 0.2], [0.5, 0.5], [0.5, 0.5]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    with pytest.raises(LabError, match="'c'"):
        plots.spread({"c": []}, "accuracy")


DRAWN = {
    "digits": lambda ax: plots.digits(np.zeros((2, 784)), ax=ax),
    "history": lambda ax: plots.history(RUN, ax=ax),
    "spread": lambda ax: plots.spread({"a": [1, 2]}, "accuracy", ax=ax),
    "intervals": lambda ax: plots.intervals(comparisons(), ax=ax),
    "confusion": lambda ax: plots.confusion([1], [2], ax=ax),
    "mistakes": lambda ax: plots.mistakes(np.zeros((1, 784)), [1], np.eye(10)[:1], ax=ax),
}


def test_every_plot_is_tried_here():
    functions = dict(inspect.getmembers(plots, inspect.isfunction))
    functions = {name for name, function in functions.items() if "ax" in inspect.signature(function).parameters}
    assert {name for name in functions if not name.startswith("_")} - {"describe"} == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_ax_in_and_ax_out_and_alt_text(name):
    _, mine = plt.subplots()
    assert DRAWN[name](mine) is mine
    assert len(plots.alt_text(mine.figure)) > 10
    assert DRAWN[name](None) is not mine


@pytest.mark.parametrize("name", DRAWN)
def test_alt_text_has_no_measured_number(name):
    assert "." not in plots.alt_text(DRAWN[name](None).figure).rstrip(".").replace(". ", " ")


def test_alt_text_of_a_plain_figure_comes_from_its_labels():
    _, ax = plt.subplots()
    ax.set(title="Losses", xlabel="epoch")
    assert plots.alt_text(ax.figure) == "Figure: Losses, epoch"


def luminance(colour):
    return np.dot(mpl.colors.to_rgb(colour), (0.2126, 0.7152, 0.0722))


def test_train_and_validation_differ_without_colour():
    ax = plots.history(RUN)
    train, valid = ax.lines[:2]
    assert train.get_linestyle() != valid.get_linestyle()
    assert abs(luminance(train.get_color()) - luminance(valid.get_color())) > 0.05


def execute(source, **environment):
    """Run one cell in a real kernel; return its outputs."""
    import os

    before = dict(os.environ)
    os.environ.update(environment)
    try:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        NotebookClient(notebook, timeout=120, km=run.kernel_manager()).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return notebook.cells[0].outputs


def test_describe_replaces_the_usual_sentence_of_its_axes_alone():
    axes = plots.row(2)
    for ax in axes:
        plots.digits(np.zeros((2, 784)), ax=ax)
    plots.describe(axes[0], "Two weights.")
    plots.describe(axes[0], "Both are grey.")
    plots.describe(axes[0], "Both are grey.")
    assert plots.alt_text(axes[0].figure) == "Two weights. Both are grey. 2 images of handwritten digits in 1 row."


FIGURE = """
from labkit import plots
plots.use_style()
ax = plots.digits([[0] * 784])
plots.describe(ax, 'A "box" & <nothing>.')
"""


def test_a_notebook_shows_a_figure_once_as_html_with_its_alt_text():
    (output,) = execute(FIGURE)
    assert set(output["data"]) == {"text/html", "text/plain"}, "not as image/png, too: files would double in size"
    assert output["data"]["text/plain"] == 'A "box" & <nothing>.'
    assert 'alt="A &quot;box&quot; &amp; &lt;nothing&gt;."' in output["data"]["text/html"]


def test_nbconverts_page_has_the_alt_text_and_misses_none(caplog):
    import nbformat
    from nbconvert import HTMLExporter

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIGURE, outputs=execute(FIGURE))])
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    assert re.search(r"<img[^>]*alt=['\"]A (&quot;|\")box(&quot;|\") &amp; &lt;nothing&gt;", page)
    assert "No description has been provided" not in page
    assert "lternative text is missing" not in caplog.text


LIVE = """
from labkit import plots
from labkit.diagnose import Diagnosis
plots.use_style()
callback = plots.live()
callback.on_train_begin()
for epoch in range(3):
    callback.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "val_loss": 1})
    print(callback.display is not None, len(callback.curves["loss"]))
LAST_LINE
"""


@pytest.mark.slow
def test_the_live_plot_redraws_one_figure_and_clears_it():
    outputs = execute(LIVE.replace("LAST_LINE", ""), LABKIT_LIVE="1")
    drawn = [output for output in outputs if "<img" in output.get("data", {}).get("text/html", "")]
    assert len(drawn) == 1, "redrawn in its place, not drawn three times"
    assert "True 3" in "".join(output.get("text", "") for output in outputs)
    cleared = execute(LIVE.replace("LAST_LINE", "callback.on_train_end()"), LABKIT_LIVE="1")
    assert not [output for output in cleared if "text/html" in output.get("data", {})]


def test_the_live_plot_can_be_quiet():
    outputs = execute(LIVE.replace("LAST_LINE", "callback.on_train_end()"), LABKIT_LIVE="0")
    assert [output["output_type"] for output in outputs] == ["stream"]
    assert "True" not in outputs[0]["text"]


def comparisons(reference=("plain", "plain", "plain"), verdict=("better", "not resolved", "worse")):
    frame = pd.DataFrame(
        {
            "hidden": ["256-64", "256-64", "512"],
            "setting": ["BN", "dropout", "BN"],
            "baseline": reference,
            "difference": [0.004, 0.001, -0.003],
            "low": [0.003, -0.001, -0.004],
            "high": [0.005, 0.003, -0.002],
            "verdict": verdict,
        }
    )
    frame.attrs["metric"] = "test_accuracy"
    return frame


def test_intervals_draws_each_comparison_in_its_row():
    ax = plots.intervals(comparisons())
    dots = {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in ax.lines[1:]}
    assert dots == {"better": (0.004, 0), "worse": (-0.003, 2), "not resolved": (0.001, 1)}
    bars = sorted(bar.tolist() for bars in ax.collections for bar in bars.get_segments())
    assert bars == [[[-0.004, 2], [-0.002, 2]], [[-0.001, 1], [0.003, 1]], [[0.003, 0], [0.005, 0]]]
    assert list(ax.lines[0].get_xdata()) == [0, 0], "the line of no difference"
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row on top"


def test_intervals_names_settings_metric_and_reference():
    ax = plots.intervals(comparisons())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["256-64, BN", "256-64, dropout", "512, BN"]
    assert ax.get_xlabel() == "difference in test accuracy, setting minus plain"
    ax = plots.intervals(comparisons(reference=("plain", "plain", "GN")))
    assert [label.get_text() for label in ax.get_yticklabels()][1:] == [
        "256-64, dropout minus plain",
        "512, BN minus GN",
    ]
    assert ax.get_xlabel().endswith("setting minus baseline")


def test_intervals_names_only_the_verdicts_there_are():
    assert labels(plots.intervals(comparisons())) == ["better", "worse", "not resolved"]
    assert labels(plots.intervals(comparisons(verdict=["not resolved"] * 3))) == ["not resolved"]


def test_verdicts_differ_without_colour():
    lines = plots.intervals(comparisons()).lines[1:]
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 3


def test_intervals_refuses_other_tables():
    with pytest.raises(LabError, match="no difference, verdict"):
        plots.intervals(comparisons().drop(columns=["difference", "verdict"]))
    with pytest.raises(LabError, match="no comparisons"):
        plots.intervals(comparisons().iloc[:0])


def examined(updates=False, **columns):
    """What `diagnose` gives for a dense layer with normalization and activation, a dropout and a softmax layer."""
    nan = np.nan
    frame = pd.DataFrame(
        {
            "depth": [0, 1, 1, 1, 1, 2],
            "parameters": [0, 20, 4, 0, 0, 30],
            "spread": [1.0, 0.1, 1.1, 0.4, 0.5, 0.2],
            "saturated": [nan, nan, nan, 0.6, nan, nan],
            "dead": [nan, nan, nan, 0.25, nan, nan],
            "weight_gradient": [nan, 0.3, 0.1, nan, nan, 0.01],
            "output_gradient": [9.0, 8.0, 7.0, 6.0, 5.0, 0.05],
            **({"update_ratio": [nan, 1e-3, 1e-2, nan, nan, 1e-5]} if updates else {}),
            **columns,
        }
    )
    return Diagnosis(frame, 2.3, 0.1, 2.3, 0.1, 2.3)


def points(line):
    return dict(zip(map(int, line.get_xdata()), line.get_ydata(), strict=True))


def test_diagnosis_draws_the_layer_that_stands_for_each_depth():
    drawn = [[points(line) for line in ax.lines] for ax in plots.diagnosis(examined(updates=True))]
    last, kernel = [{1: 0.5, 2: 0.2}], [{1: 0.3, 2: 0.01}]
    activation, dead = drawn[1]
    assert (drawn[0], drawn[2]) == (last, kernel)
    assert drawn[3:] == [[{1: 5.0, 2: 0.05}], [{1: 1e-3, 2: 1e-5}]]
    assert (activation[1], dead[1]) == (0.6, 0.25)


def test_diagnosis_draws_shares_from_0_to_1_whatever_they_are():
    low, high = plots.diagnosis(examined())[1].get_ylim()
    assert -0.1 < low < 0
    assert 1 < high < 1.1


def test_diagnosis_has_a_plot_of_updates_only_where_they_are_known():
    assert len(plots.diagnosis(examined())) == 4
    axes = plots.diagnosis({"a": examined(), "b": examined(updates=True)})
    assert [len(ax.lines) for ax in axes] == [2, 4, 2, 2, 1]
    assert {axes[4].lines[0].get_color()} == {axes[0].lines[1].get_color()}, "each model keeps its colour"
    assert all(ax.get_title() for ax in axes)
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, False, False, True, True]


def test_models_of_a_diagnosis_differ_without_colour():
    axes = plots.diagnosis({11: examined(), 4: examined()})
    lines = axes[0].lines
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["11", "4"]
    assert [key.get_marker() for key in legend.get_lines()] == [line.get_marker() for line in lines]
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 2
    assert not plots.diagnosis(examined())[0].figure.legends, "one model needs no name"


def test_diagnosis_marks_what_a_logarithmic_axis_cannot_hold():
    inf = np.inf
    strange = {"spread": [1, 1, 1, 1, 0, 0.2], "output_gradient": [1, 1, 1, 1, np.nan, inf], "parameters": [0] * 6}
    axes = plots.diagnosis({"strange": examined(**strange), "plain": examined()})
    line, zeros, _ = axes[0].lines
    assert np.isnan(points(line)[1])
    assert points(line)[2] == 0.2
    assert (zeros.get_marker(), list(zeros.get_xdata())) == ("x", [1])
    _, stars, _ = axes[3].lines
    assert (stars.get_marker(), list(stars.get_xdata())) == ("*", [1, 2])
    assert [len(line.get_xdata()) for line in axes[2].lines] == [0, 2], "frozen layers have no gradient"
    assert 0 < zeros.get_ydata()[0] < plots.ZEROS, "in the strip"
    assert 0 < stars.get_ydata()[0] < 1, "inside the axes"
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["strange", "plain", "exactly 0", "not finite"]


@pytest.mark.parametrize("values", [[0.3, 0.4], [1.0, 1.0], [0.8, 1.2], [1e-7, 1e-3], [0, 0], [np.nan, np.nan]])
def test_a_logarithmic_axis_of_a_diagnosis_has_two_powers_of_ten(values):
    ax = plots.diagnosis(examined(spread=[1, 1, 1, 1, *values]))[0]
    low, high = ax.get_ylim()
    powers = [tick for tick in 10.0 ** np.arange(-9, 9) if low <= tick <= high]
    assert len(powers) >= 2
    assert all(low < value < high for value in values if value > 0)


def test_the_legend_of_a_diagnosis_covers_no_plot_and_the_figure_fits_a_notebook():
    axes = plots.diagnosis({f"a network of eleven layers, number {i}": examined() for i in range(7)})
    figure = axes[0].figure
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert figure.get_figwidth() <= 9
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.x1
    assert all(ax.get_tightbbox().y1 <= legend.y0 for ax in axes)


def test_depths_are_whole_numbers():
    axes = plots.diagnosis(examined(depth=[0, 0, 0, 0, 0, 1]))
    axes[0].figure.canvas.draw()
    low, high = axes[2].get_xlim()
    assert [tick for tick in axes[2].get_xticks() if low <= tick <= high] == [1]


def test_diagnosis_in_axes_of_your_own_and_alt_text():
    _, grid = plt.subplots(2, 2)
    axes = plots.diagnosis({"plain": examined(), "BN": examined()}, grid.flat)
    assert axes == list(grid.flat)
    assert labels(axes[0]) == ["plain", "BN"]
    text = plots.alt_text(axes[0].figure)
    assert text.startswith("Small plots over the depth of plain, BN: spread of outputs")
    assert not any(letter.isdigit() for letter in text)


def test_diagnosis_refuses_other_axes_and_nothing():
    with pytest.raises(LabError, match="draws 5 plots; it got 4 axes"):
        plots.diagnosis(examined(updates=True), plt.subplots(2, 2)[1].flat)
    with pytest.raises(LabError, match="no diagnosis"):
        plots.diagnosis({})


def test_plots_do_not_import_pandas():
    code = "import sys; from labkit import plots; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
