"""Statistics over runs: effect, interval, test, verdict and table. One run each gives no verdict.

Runs come as a pandas DataFrame with one row per run: a column per option, `seed`, and the metrics (see labkit.study).
There are two questions that sound alike. `compare` asks whether a *recipe* tends to be better, whatever the seed: it
needs several runs of each. `mcnemar` asks whether *two fitted networks* differ on images like these: it needs only
their answers. Two networks can differ clearly while their recipes do not, because one of them had a lucky seed; and
recipes can differ while a single pair of networks does not show it.
"""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import LabError

if TYPE_CHECKING:
    import pandas as pd
    from prettytable import PrettyTable

CONFIDENCE = 0.95
POWER = 0.8  # the chance to resolve a difference as large as `resolvable` (Cohen 1988)
INTERVALS = {"low": "high", "welch_low": "welch_high"}  # columns that a table shows as one


def summary(runs: "pd.DataFrame", metric: str, by: str | list[str]) -> "pd.DataFrame":
    """Mean and standard deviation of `metric` for each setting.

    Parameters
    ----------
    runs : pandas.DataFrame
        A row per run.
    metric : str
        The column of numbers.
    by : str or list of str
        The column, or columns, that tell settings apart.

    Returns
    -------
    pandas.DataFrame
        A row per setting, in order of first appearance: the `by` columns, `runs` (how many), `mean`, `sd` (with n - 1),
        and the 95% interval of the mean over seeds from `low` to `high` (Student 1908). A single run has a mean but no
        standard deviation: `sd`, `low` and `high` are NaN.

    Raises
    ------
    LabError
        Where a column is missing or `metric` has values that are not finite.
    """
    from scipy import stats

    by = _names(by)
    runs = _checked(runs, metric, by)
    frame = runs.groupby(by, sort=False, observed=True)[metric].agg(runs="size", mean="mean", sd="std").reset_index()
    half = stats.t.isf((1 - CONFIDENCE) / 2, frame["runs"] - 1) * frame["sd"] / np.sqrt(frame["runs"])
    frame["low"], frame["high"] = frame["mean"] - half, frame["mean"] + half
    frame.attrs.update(metric=metric, confidence=CONFIDENCE)
    return frame


def compare(
    runs: "pd.DataFrame",
    metric: str,
    by: str,
    baseline: str | float | None,
    within: str | list[str] | None = None,
    *,
    paired: bool = False,
    pair: str | list[str] = "seed",
    higher_is_better: bool | None = None,
    confidence: float = CONFIDENCE,
) -> "pd.DataFrame":
    """Compare the runs of each setting of column `by` with those of the setting `baseline`.

    Parameters
    ----------
    runs : pandas.DataFrame
        A row per run. An option that is None is a setting named "None".
    metric : str
        The column of numbers to compare.
    by : str
        The column that tells settings apart.
    baseline : value of the column `by`
        What the others are compared with.
    within : str or list of str, optional
        Comparisons stay inside each combination of the values of these columns.
    paired : bool
        False for runs that are independent of each other: Welch's t test (Welch 1947). True for values that belong
        together two by two, such as one training stopped by two rules: Student's paired t test (Student 1908). It has
        half the degrees of freedom, so it pays only where the pairs are correlated.
    pair : str or list of str
        The columns that tell which two runs belong together.
    higher_is_better : bool, optional
        None decides by the metric's name: for a loss, an error or seconds, lower is better.
    confidence : float
        Of the whole family of comparisons in this call.

    Returns
    -------
    pandas.DataFrame
        A row per comparison: the `within` columns, `setting`, `baseline`; `runs` (how many of each; the smaller
        number); `difference` (mean of setting minus baseline); its interval `low` to `high`; `p`; `p_holm`, corrected
        for the comparisons of this call (Holm 1979); `verdict`, one of "better", "worse", "not resolved" and
        "identical"; `r`, the correlation of the pairs; `resolvable`.

    Raises
    ------
    LabError
        Where a verdict would be unsound: fewer than two runs of a setting, two runs that claim the same place, values
        that are not finite or do not vary at all, a column or setting that does not exist; with `paired`, a run without
        partner.

    Notes
    -----
    Interval and verdict go by one correction: each interval has the level at which Holm's procedure judges its row, so
    it holds 0 exactly where the verdict is "not resolved".
    Rows whose values are equal in every pair are "identical": nothing was compared, so they have no p and do not count
    as a comparison.
    `resolvable` is the minimum detectable effect (Bloom 1995): the smallest difference that this design had a chance of
    80% to resolve, given the standard deviations of the runs. It does not depend on the difference that was found.
    `r` is NaN where there are fewer than three pairs or one of the two does not vary. With `paired`, where pairing does
    not shorten the interval, `welch_low` to `welch_high` is Welch's at the same level, and NaN elsewhere.
    """
    import pandas as pd

    if not 0 < confidence < 1:
        raise LabError(f"The confidence is a share between 0 and 1, for example 0.95; this one is {confidence}.")
    within, pair = _names(within), _names(pair)
    runs = _checked(runs, metric, [by, *within, *pair])
    baseline = "None" if baseline is None else baseline
    settings = list(runs[by].unique())
    if baseline not in settings:
        raise LabError(f"No run has {by} {baseline}, so nothing compares with it; there are {_listed(settings)}.")
    _refuse_duplicates(runs, [*within, by, *pair])
    if higher_is_better is None:
        higher_is_better = not any(word in metric for word in ("loss", "error", "entropy", "seconds"))

    places, comparisons = [], []
    for cell, group in _cells(runs, within):
        values = group.pivot(index=pair, columns=by, values=metric)
        if baseline not in values:
            raise LabError(f"There is no run with {_spelled({**cell, by: baseline})} to compare with: record it.")
        for setting in group[by].unique():
            if setting != baseline:
                places.append({**cell, "setting": setting, "baseline": baseline})
                comparisons.append(_Comparison.of(values, setting, baseline, cell, paired))
    if not comparisons:
        raise LabError(f"All runs have {by} {baseline}: there is nothing to compare it with.")
    found = _judged(comparisons, 1 - confidence, 1 if higher_is_better else -1)
    frame = pd.DataFrame([place | row for place, row in zip(places, found, strict=True)])
    if "welch_low" in frame and frame["welch_low"].isna().all():
        frame = frame.drop(columns=["welch_low", "welch_high"])
    frame.attrs.update(metric=metric, confidence=confidence, comparisons=sum(not one.identical for one in comparisons))
    return frame


@dataclass(frozen=True)
class _Comparison:
    """The values of a setting and of the baseline, each (runs,), in the order of the pairs where there are pairs."""

    setting: np.ndarray
    baseline: np.ndarray
    pairs: np.ndarray  # (pairs, 2): those with both values
    paired: bool
    identical: bool

    @classmethod
    def of(cls, values, setting, baseline, cell, paired):
        """Raises LabError where the two cannot be compared. values: a row per pair, a column per setting."""
        inside = f" ({_spelled(cell)})" if cell else ""
        two = values[[setting, baseline]].dropna(how="all")
        if two.count().min() < 2:
            raise LabError(
                f"There are too few runs to compare {setting} with {baseline}{inside}: one run each cannot tell a "
                "difference from luck, so record more seeds."
            )
        if paired:
            _refuse_single(two, setting, baseline, inside)
        whole = two.dropna()
        one, other = (two[name].dropna().to_numpy() for name in (setting, baseline))
        rounding = 1e-12 * np.abs(two.to_numpy()[~two.isna().to_numpy()]).max()  # far below any accuracy
        apart = (whole[setting] - whole[baseline]).to_numpy()
        identical = len(whole) == len(two) and bool(np.abs(apart).max() <= rounding)
        spread = np.ptp(apart) if paired else max(np.ptp(one), np.ptp(other))
        if not identical and spread <= rounding:
            raise LabError(
                f"{setting} and {baseline}{inside} differ by the same amount in all {len(two)} runs, which leaves no "
                "luck to measure the difference against: check that each run uses its seed, or record more seeds."
            )
        return cls(one, other, whole.to_numpy(), paired, identical)

    @property
    def difference(self):
        return 0.0 if self.identical else float(self.setting.mean() - self.baseline.mean())

    @property
    def r(self):
        one, other = self.pairs.T if len(self.pairs) else (np.zeros(1),) * 2
        return float(np.corrcoef(one, other)[0, 1]) if len(one) > 2 and np.ptp(one) and np.ptp(other) else math.nan

    def test(self, paired):
        """Student's paired t test of the pairs, or Welch's of the two settings."""
        if paired:
            apart = self.pairs[:, 0] - self.pairs[:, 1]
            return _T(self.difference, apart.std(ddof=1) / math.sqrt(len(apart)), len(apart) - 1)
        squares = [values.var(ddof=1) / len(values) for values in (self.setting, self.baseline)]
        freedom = [square**2 / (len(v) - 1) for square, v in zip(squares, (self.setting, self.baseline), strict=True)]
        return _T(self.difference, math.sqrt(sum(squares)), sum(squares) ** 2 / sum(freedom))


@dataclass(frozen=True)
class _T:
    """A t test: a difference, its standard error and the degrees of freedom."""

    difference: float
    error: float
    freedom: float

    @property
    def p(self):
        from scipy import stats

        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.freedom))

    def interval(self, level):
        """The confidence interval that leaves out 0 where p is below the level."""
        from scipy import stats

        half = float(stats.t.isf(level / 2, self.freedom) * self.error)
        return self.difference - half, self.difference + half

    def resolvable(self, level):
        """The minimum detectable effect of this test."""
        from scipy import stats

        return float((stats.t.isf(level / 2, self.freedom) + stats.t.ppf(POWER, self.freedom)) * self.error)


def _judged(comparisons, alpha, sign):
    """What `compare` says of each comparison, as dicts. sign: 1 where higher is better, -1 where lower is."""
    from statsmodels.stats.multitest import multipletests

    family = [one for one in comparisons if not one.identical]
    tests = [one.test(one.paired) for one in family]
    p = np.array([test.p for test in tests])
    p_holm = multipletests(p, method="holm")[1] if len(p) else p
    levels = _holm_levels(p, alpha)
    rows = []
    at = iter(zip(tests, p, p_holm, levels, strict=True))
    for one in comparisons:
        row = {"runs": min(len(one.setting), len(one.baseline)), "difference": one.difference}
        if one.identical:
            empty = dict.fromkeys(("low", "high", "p", "p_holm"), math.nan)
            rows.append(row | empty | {"verdict": "identical", "r": one.r, "resolvable": math.nan})
            continue
        test, p_row, p_corrected, level = next(at)
        low, high = test.interval(level)
        verdict = _verdict(sign * one.difference, p_corrected, alpha)
        row |= {
            "low": low,
            "high": high,
            "p": float(p_row),
            "p_holm": float(p_corrected),
            "verdict": verdict,
            "r": one.r,
        }
        row["resolvable"] = test.resolvable(alpha / len(family))
        if one.paired:
            welch = one.test(False).interval(level)
            helps = high - low < welch[1] - welch[0]
            row["welch_low"], row["welch_high"] = (math.nan, math.nan) if helps else welch
        rows.append(row)
    return rows


def _holm_levels(p, alpha):
    """The level at which Holm's procedure judges each p: alpha / how many are left, until one is not significant."""
    levels, left = np.empty(len(p)), len(p)
    stopped = False
    for i in np.argsort(p, kind="stable"):
        levels[i] = alpha / left
        stopped = stopped or p[i] >= levels[i]
        left -= not stopped
    return levels


@dataclass(frozen=True)
class McNemar:
    """What `mcnemar` finds. `table` makes it readable."""

    only_a: int  # images that only a classifies correctly
    only_b: int
    difference: float  # accuracy of b minus accuracy of a
    low: float  # 95% interval of the difference
    high: float
    p: float
    verdict: str  # of b, measured by a: "better", "worse" or "not resolved"


def mcnemar(y_true: ArrayLike, a: ArrayLike, b: ArrayLike) -> McNemar:
    """Do two fitted networks differ on images like these? Count the images that only one of them classifies correctly.

    Parameters
    ----------
    y_true, a, b : array of int, shape (n,)
        The true classes, and those that each network predicts for the same n images.

    Returns
    -------
    McNemar

    Raises
    ------
    LabError
        Where the arrays are not three rows of n classes, for example probabilities.

    Notes
    -----
    p is that of the exact test of McNemar (1947), which Dietterich (1998) recommends for two classifiers that were
    trained once. The interval is Wald's after adding 1/2 to each of the four counts (Agresti and Min 2005). It says
    nothing about other seeds: for "does this recipe tend to be better?", use `compare`.
    """
    from scipy import stats

    y_true, a, b = (np.asarray(array) for array in (y_true, a, b))
    if y_true.ndim != 1 or not y_true.size or not y_true.shape == a.shape == b.shape:
        raise LabError(
            f"stats.mcnemar compares three arrays of n classes; these have shapes {y_true.shape}, {a.shape} and "
            f"{b.shape}: turn probabilities into classes with .argmax(axis=1)."
        )
    if any(array.dtype.kind not in "biu" and not np.all(array == np.round(array)) for array in (y_true, a, b)):
        raise LabError(
            "stats.mcnemar compares classes, which are whole numbers: turn probabilities into classes first."
        )
    n = len(y_true)
    only_a, only_b = int(np.sum((a == y_true) & (b != y_true))), int(np.sum((a != y_true) & (b == y_true)))
    p = float(stats.binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0
    middle = (only_b - only_a) / (n + 2)
    half = stats.norm.isf((1 - CONFIDENCE) / 2) * math.sqrt(((only_a + only_b + 1) / (n + 2) - middle**2) / (n + 2))
    low, high = max(-1.0, float(middle - half)), min(1.0, float(middle + half))
    difference = (only_b - only_a) / n
    return McNemar(only_a, only_b, difference, low, high, p, _verdict(difference, p, 1 - CONFIDENCE))


def table(frame: "pd.DataFrame | McNemar") -> "PrettyTable":
    """Make a table that shows as text where it is printed, and as HTML at the end of a notebook's cell.

    Parameters
    ----------
    frame : pandas.DataFrame or McNemar
        What `summary`, `compare` or `mcnemar` returns, or any other, such as a study's runs. `low` and `high` become
        one column. The column `history` and the row labels are left out.
    """
    import pandas as pd
    from prettytable import PrettyTable

    if isinstance(frame, McNemar):
        frame = pd.DataFrame([asdict(frame)])
    made = PrettyTable(format=True)  # so that HTML, too, has its columns aligned
    for name in frame.columns:
        if name not in {"history", *INTERVALS.values()}:
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


def _refuse_single(two, setting, baseline, inside):
    for lacking, partner in ((setting, baseline), (baseline, setting)):
        alone = two.index[two[lacking].isna()]
        if len(alone):
            pairs = "; ".join(_spelled(dict(zip(two.index.names, np.atleast_1d(key), strict=True))) for key in alone)
            raise LabError(
                f"These runs of {partner} have no partner among those of {lacking}{inside}: {pairs}; record the "
                "missing runs, or leave these out."
            )


def _verdict(gain, p, alpha):
    if p >= alpha:
        return "not resolved"
    return "better" if gain > 0 else "worse"


def _column(frame, name):
    """Heading, cells as text, and alignment ("l" or "r") of one column of a table."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    metric = frame.attrs.get("metric", "accuracy")
    if name in INTERVALS:
        limits = zip(frame[name], frame[INTERVALS[name]], strict=True)
        none = "one run" if "verdict" not in frame else ""
        cells = [
            none if math.isnan(low) else f"[{_number(low, metric)}, {_number(high, metric)}]" for low, high in limits
        ]
        kind = "Welch's " if name == "welch_low" else ""
        family = ", Holm" if frame.attrs.get("comparisons", 1) > 1 else ""
        return f"{kind}{100 * frame.attrs.get('confidence', CONFIDENCE):g}% interval{family}", cells, "r"
    heading = {"p_holm": "p (Holm)"}.get(name, str(name).replace("_", " "))
    if not is_numeric_dtype(frame[name]) or is_bool_dtype(frame[name]):
        return heading, [str(value) for value in frame[name]], "l"
    kind = metric if name in {"mean", "sd", "difference", "resolvable"} else str(name)
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
    if kind == "r":
        return f"{value:z.2f}"
    if any(word in kind for word in ("accuracy", "loss", "error", "entropy")):
        return f"{value:.1e}" if 0 < abs(value) < 0.00005 else f"{value:z,.4f}"
    return f"{value:,.6g}"
