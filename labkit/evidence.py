"""Statistics over a study: effect, interval, paired test, verdict and table. One run each gives no verdict.

Runs come as a pandas DataFrame with one row per run: a column per option, `seed`, and the metrics (see labkit.study).
There are two questions that sound alike. `compare` asks whether a *recipe* tends to be better, whatever the seed: it
needs several runs of each. `mcnemar` asks whether *two fitted networks* differ on images like these: it needs only
their answers. Two networks can differ clearly while their recipes do not, because one of them had a lucky seed; and
recipes can differ while a single pair of networks does not show it.
"""

import bisect
import math
from dataclasses import asdict, dataclass

import numpy as np

from labkit.errors import LabError

CONFIDENCE = 0.95
POWER = 0.8  # the chance to resolve a real difference that `more_seeds` plans for (Cohen 1988)
MOST_SEEDS = 1000  # beyond it, `more_seeds` is infinite


def summary(runs, metric, by):
    """Mean and spread of `metric` for each setting.

    by: the name of the column, or the list of columns, that tell settings apart.
    Returns a DataFrame with a row per setting, in order of first appearance: the `by` columns, `runs` (how many),
    `mean`, `sd` (with n - 1), and the 95% interval of the mean over seeds from `low` to `high` (Student 1908). A single
    run has a mean but no spread: `sd`, `low` and `high` are NaN.
    Raises LabError where a column is missing or `metric` has values that are not finite.
    """
    from scipy import stats

    by = _names(by)
    runs = _checked(runs, metric, by)
    frame = runs.groupby(by, sort=False, observed=True)[metric].agg(runs="size", mean="mean", sd="std").reset_index()
    half = stats.t.isf((1 - CONFIDENCE) / 2, frame["runs"] - 1) * frame["sd"] / np.sqrt(frame["runs"])
    frame["low"], frame["high"] = frame["mean"] - half, frame["mean"] + half
    frame.attrs.update(metric=metric, confidence=CONFIDENCE)
    return frame


def compare(runs, metric, by, to, within=None, *, higher_is_better=None, pair="seed", confidence=CONFIDENCE):
    """Compare each setting of column `by` with the setting `to`, run by run with the same seed.

    within: a column or list of columns; comparisons stay inside each combination of their values.
    higher_is_better: None decides by the metric's name: for a loss, an error or seconds, lower is better.
    pair: the column or list of columns that tell which two runs belong together.
    confidence: of each interval; a verdict needs a Holm-corrected p below 1 - confidence.

    Returns a DataFrame with a row per comparison: the `within` columns, `setting`, `reference`; `pairs` (how many);
    `difference` (mean of setting minus reference) with its interval `low` to `high` and its `p`, from the paired t test
    (Student 1908); `p_holm`, corrected for all comparisons of this call (Holm 1979); `verdict`, one of "better",
    "worse" and "not resolved"; and `more_seeds`.

    The intervals are not corrected: with several comparisons, one can exclude 0 and yet be "not resolved".
    `more_seeds` says how many more pairs would give the paired t test a power of 80%, if mean and spread stayed as
    measured. It plans for the level (1 - confidence) / comparisons, which is enough for Holm whatever the others
    show. It is NaN where the difference is resolved, and infinite above 1000. It is itself only an estimate.
    Where setting and reference agree exactly in every pair, p is 1. An option that is None is a setting named "None".

    Raises LabError where a verdict would be unsound: fewer than two pairs, a run without partner, two runs that claim
    the same place, values that are not finite, a difference that is the same in every pair (the t test is undefined),
    a column or setting that does not exist.
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    if not 0 < confidence < 1:
        raise LabError(f"The confidence is a share between 0 and 1, for example 0.95; this one is {confidence}.")
    within, pair = _names(within), _names(pair)
    runs = _checked(runs, metric, [by, *within, *pair])
    to = "None" if to is None else to
    settings = list(runs[by].unique())
    if to not in settings:
        raise LabError(f"No run has {by} {to}, so nothing can be compared with it; there are {_listed(settings)}.")
    _refuse_duplicates(runs, [*within, by, *pair])
    if higher_is_better is None:
        higher_is_better = not any(word in metric for word in ("loss", "error", "seconds"))

    rows = []
    for cell, group in _cells(runs, within):
        values = group.pivot(index=pair, columns=by, values=metric)
        if to not in values:
            raise LabError(f"There is no run with {_spelled({**cell, by: to})} to compare with: record it.")
        for setting in group[by].unique():
            if setting != to:
                differences = _paired(values, setting, to, cell)
                rows.append({**cell, "setting": setting, "reference": to, **_t_test(differences, confidence)})
    if not rows:
        raise LabError(f"All runs have {by} {to}: there is nothing to compare it with.")

    frame = pd.DataFrame(rows)
    alpha = 1 - confidence
    frame["p_holm"] = multipletests(frame["p"], method="holm")[1]
    frame["verdict"] = [
        _verdict(difference if higher_is_better else -difference, p, alpha)
        for difference, p in zip(frame["difference"], frame["p_holm"], strict=True)
    ]
    effect = frame.pop("effect")
    frame["more_seeds"] = [
        _more_pairs(size, pairs, alpha / len(frame)) if verdict == "not resolved" else math.nan
        for size, pairs, verdict in zip(effect, frame["pairs"], frame["verdict"], strict=True)
    ]
    frame.attrs.update(metric=metric, confidence=confidence)
    return frame


@dataclass(frozen=True)
class McNemar:
    """What `mcnemar` finds. `table` makes it readable."""

    only_a: int  # images that only a reads rightly
    only_b: int
    difference: float  # accuracy of b minus accuracy of a
    low: float  # 95% interval of the difference
    high: float
    p: float
    verdict: str  # of b, measured by a: "better", "worse" or "not resolved"


def mcnemar(y_true, a, b):
    """Do two fitted networks differ on images like these? Count the images that only one of them reads rightly.

    y_true, a, b: (n,) whole numbers: the true classes, and those that each network predicts for the same n images.
    Returns a McNemar. p: the exact test of McNemar (1947), recommended by Dietterich (1998) for two classifiers that
    were trained once. Interval: the Wald interval after adding 1/2 to each of the four counts (Agresti and Min 2005).
    It says nothing about other seeds: for "does this recipe tend to be better?", use `compare`.
    Raises LabError where the arrays are not three rows of n classes, for example probabilities.
    """
    from scipy import stats

    y_true, a, b = (np.asarray(array) for array in (y_true, a, b))
    if y_true.ndim != 1 or not y_true.size or not y_true.shape == a.shape == b.shape:
        raise LabError(
            f"evidence.mcnemar compares three arrays of n classes; these have shapes {y_true.shape}, {a.shape} and "
            f"{b.shape}: turn probabilities into classes with .argmax(axis=1)."
        )
    if any(array.dtype.kind not in "biu" and not np.all(array == np.round(array)) for array in (y_true, a, b)):
        raise LabError(
            "evidence.mcnemar compares classes, which are whole numbers: turn probabilities into classes first."
        )
    n = len(y_true)
    only_a, only_b = int(np.sum((a == y_true) & (b != y_true))), int(np.sum((a != y_true) & (b == y_true)))
    p = float(stats.binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0
    middle = (only_b - only_a) / (n + 2)
    half = stats.norm.isf((1 - CONFIDENCE) / 2) * math.sqrt(((only_a + only_b + 1) / (n + 2) - middle**2) / (n + 2))
    low, high = max(-1.0, float(middle - half)), min(1.0, float(middle + half))
    difference = (only_b - only_a) / n
    return McNemar(only_a, only_b, difference, low, high, p, _verdict(difference, p, 1 - CONFIDENCE))


def table(frame):
    """A PrettyTable of what `summary`, `compare` or `mcnemar` returns, or of any DataFrame such as a study's runs.

    It shows as text where it is printed and as HTML at the end of a notebook's cell. `low` and `high` become one
    column, and so do `verdict` and `more_seeds`. The column `history` and the row labels are left out.
    """
    import pandas as pd
    from prettytable import PrettyTable

    if isinstance(frame, McNemar):
        frame = pd.DataFrame([asdict(frame)])
    made = PrettyTable(format=True)  # so that HTML, too, has its columns aligned
    for name in frame.columns:
        if name not in {"history", "high", "more_seeds"}:
            heading, cells, align = _column(frame, name)
            made.add_column(heading, cells, align)
    return made


def _names(columns):
    """A list of column names, from one name, a list of names or None."""
    return [] if columns is None else [columns] if isinstance(columns, str) else list(columns)


def _listed(things):
    return ", ".join(str(thing) for thing in things)


def _spelled(values):
    """{"hidden": 32, "seed": 1} -> "hidden 32, seed 1"."""
    return _listed(f"{name} {value}" for name, value in values.items())


def _checked(runs, metric, keys):
    """The columns `keys` and `metric` of the runs, the latter as floats, after all that can be wrong was refused."""
    from pandas.api.types import is_numeric_dtype

    if not len(runs):
        raise LabError("There are no runs to look at: record some.")
    for name in (metric, *keys):
        if name not in runs:
            raise LabError(f"The runs have no column {name}; there are {_listed(runs.columns)}.")
        if [metric, *keys].count(name) > 1:
            raise LabError(f"The column {name} is asked for twice: give each column one part to play.")
    if not is_numeric_dtype(runs[metric]):
        raise LabError(f"The column {metric} does not hold numbers: choose a metric.")
    runs = runs[[*keys, metric]].astype({metric: float})
    for name in keys:
        if runs[name].isna().any():  # None is a setting like others, but pandas would pass over it
            runs[name] = runs[name].astype(object).where(runs[name].notna(), "None")
    if wrong := int((~np.isfinite(runs[metric])).sum()):
        raise LabError(
            f"{wrong} of {len(runs)} values of {metric} are not finite (did a run diverge?): look at these runs, and "
            "either mend them or leave their setting out in sight of the reader."
        )
    return runs


def _refuse_duplicates(runs, keys):
    places = runs.groupby(keys, sort=False, observed=True).size()
    if places.max() > 1:
        place = dict(zip(keys, places.idxmax(), strict=True))
        raise LabError(
            f"{places.max()} runs have {_spelled(place)}, so it is unclear which to pair: name the other options that "
            "vary in `within`, or keep one of these runs."
        )


def _cells(runs, within):
    """For each combination of the `within` columns: its values by name, and its runs."""
    if not within:
        yield {}, runs
        return
    for values, group in runs.groupby(within, sort=False, observed=True):
        yield dict(zip(within, values, strict=True)), group


def _paired(values, setting, to, cell):
    """Setting minus reference for each pair: (pairs,). values: a row per pair, a column per setting."""
    two = values[[setting, to]].dropna(how="all")
    inside = f" ({_spelled(cell)})" if cell else ""
    if two.count().min() < 2:
        raise LabError(
            f"There are too few runs to compare {setting} with {to}{inside}: one run each cannot tell a difference "
            "from luck, so record more seeds."
        )
    for lacking, partner in ((setting, to), (to, setting)):
        alone = two.index[two[lacking].isna()]
        if len(alone):
            pairs = "; ".join(_spelled(dict(zip(two.index.names, np.atleast_1d(key), strict=True))) for key in alone)
            raise LabError(
                f"These runs of {partner} have no partner among those of {lacking}{inside}: {pairs}; record the "
                "missing runs, or leave these out."
            )
    differences = (two[setting] - two[to]).to_numpy()
    rounding = 1e-12 * np.abs(two.to_numpy()).max()  # far above that of a float, far below any accuracy
    if np.ptp(differences) <= rounding:
        if np.abs(differences).max() > rounding:
            raise LabError(
                f"{setting} and {to}{inside} differ by the same amount in all {len(two)} pairs, which leaves no luck "
                "to measure the difference against: check that each run uses its seed, or record more seeds."
            )
        differences = np.zeros(len(two))
    return differences


def _t_test(differences, confidence):
    """Student's paired t test. differences: (pairs,), all 0 or not all equal. `effect` is mean over spread."""
    from scipy import stats

    mean = float(differences.mean())
    if not differences.any():
        return {"pairs": len(differences), "difference": mean, "low": mean, "high": mean, "p": 1.0, "effect": 0.0}
    test = stats.ttest_rel(differences, np.zeros(len(differences)))
    interval = test.confidence_interval(confidence)
    return {
        "pairs": len(differences),
        "difference": mean,
        "low": float(interval.low),
        "high": float(interval.high),
        "p": float(test.pvalue),
        "effect": abs(mean) / float(differences.std(ddof=1)),
    }


def _verdict(gain, p, alpha):
    if p >= alpha:
        return "not resolved"
    return "better" if gain > 0 else "worse"


def _more_pairs(effect, pairs, alpha):
    """How many more pairs give the paired t test at level alpha a power of 80%: at least 1, infinite above 1000."""
    from statsmodels.stats.power import TTestPower

    # Only the tail on the side of the effect: the other adds nothing at 80%, but is often NaN in SciPy. This one is NaN
    # at times where the power is close to 1, which the bisection takes for enough, as it should.
    def power(more):
        return TTestPower().power(effect, pairs + more, alpha / 2, alternative="larger")

    candidates = range(1, MOST_SEEDS + 1)
    found = bisect.bisect_left(candidates, POWER, key=power)
    return float(candidates[found]) if found < MOST_SEEDS else math.inf


def _column(frame, name):
    """Heading, cells as text, and alignment ("l" or "r") of one column of a table."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    metric = frame.attrs.get("metric", "accuracy")
    if name == "low":
        limits = zip(frame["low"], frame["high"], strict=True)
        cells = [
            "one run" if math.isnan(low) else f"[{_number(low, metric)}, {_number(high, metric)}]"
            for low, high in limits
        ]
        return f"{100 * frame.attrs.get('confidence', CONFIDENCE):g}% interval", cells, "r"
    if name == "verdict" and "more_seeds" in frame:
        cells = zip(frame["verdict"], frame["more_seeds"], strict=True)
        return name, [verdict if math.isnan(more) else f"{verdict} ({_seeds(more)})" for verdict, more in cells], "l"
    heading = {"p_holm": "Holm p", "pairs": "seeds"}.get(name, str(name).replace("_", " "))
    if not is_numeric_dtype(frame[name]) or is_bool_dtype(frame[name]):
        return heading, [str(value) for value in frame[name]], "l"
    kind = metric if name in {"mean", "sd", "difference"} else str(name)
    empty = frame[name].isna()
    return heading, ["" if no else _number(value, kind) for value, no in zip(frame[name], empty, strict=True)], "r"


def _number(value, kind):
    """A number as text, with the digits that suit its kind: the name of a metric or column."""
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if kind in {"p", "p_holm"}:
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if "seconds" in kind:
        return f"{value:z,.1f}"
    if any(word in kind for word in ("accuracy", "loss", "error")):
        return f"{value:z,.4f}"
    return f"{value:,.6g}"


def _seeds(more):
    if math.isinf(more):
        return f"> {MOST_SEEDS} more seeds"
    return f"{more:.0f} more seed{'s' if more > 1 else ''}"
