"""Statistics against published worked examples, then their properties, then every refusal."""

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from labkit import stats
from labkit.errors import LabError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch):
    # statsmodels collects garbage in each correction, which takes a tenth of a second where much is loaded.
    monkeypatch.setattr("gc.collect", lambda: 0)


def study(**settings):
    """Runs of each setting, with seeds 1, 2, ...: study(plain=[0.9, 0.8], BN=[0.95, 0.9])."""
    rows = [
        {"method": method, "seed": seed, "test_accuracy": value}
        for method, values in settings.items()
        for seed, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


def compare(runs, **options):
    return stats.compare(runs, **{"metric": "test_accuracy", "by": "method", "baseline": "plain", **options})


def random_study(rng, settings=("plain", "BN", "dropout"), cells=("a", "b"), seeds=6, gain=0.0):
    rows = [
        {"hidden": cell, "method": method, "seed": seed, "test_accuracy": gain * i + rng.normal()}
        for cell in cells
        for i, method in enumerate(settings)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


# Published examples

# Student (1908), "The probable error of a mean": hours of sleep gained by ten patients with each of two drugs.
SLEEP = {
    "plain": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    "BN": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
}


def test_paired_t_test_of_students_sleep_data():
    # R's documentation of t.test prints t = -4.0621, df = 9, p = 0.002833, and -2.4598858 to -0.7001142 for the first
    # drug minus the second. Here it is the second minus the first.
    (row,) = compare(study(**SLEEP), paired=True).itertuples()
    assert (row.setting, row.baseline, row.runs, row.verdict) == ("BN", "plain", 10, "better")
    assert row.difference == pytest.approx(1.58)
    assert (row.low, row.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert row.p == pytest.approx(0.002833, abs=5e-7)
    assert row.p_holm == row.p
    assert row.r == pytest.approx(0.7951702, abs=5e-8), "R: cor(extra[group == 1], extra[group == 2])"
    assert not hasattr(row, "welch_low"), "pairing helps here"


def test_welchs_t_test_of_students_sleep_data():
    # R's documentation of t.test prints t = -1.8608, df = 17.776, p = 0.07939, and -3.3654832 to 0.2054832.
    (row,) = compare(study(**SLEEP)).itertuples()
    assert row.verdict == "not resolved"
    assert (row.low, row.high) == pytest.approx((-0.2054832, 3.3654832), abs=5e-8)
    assert row.p == pytest.approx(0.07939, abs=5e-6)


def test_the_smallest_resolvable_difference():
    # Bloom (1995): the sum of the two quantiles times the standard error. By hand, for the paired sleep data: the error
    # is 1.58 / 4.062128; the table of t has 2.262157 (two-sided 5%) and 0.883404 (one-sided 20%) for 9 degrees.
    (row,) = compare(study(**SLEEP), paired=True).itertuples()
    assert row.resolvable == pytest.approx((2.262157 + 0.883404) * 1.58 / 4.062128, rel=1e-5)


def test_the_smallest_resolvable_difference_does_not_depend_on_the_one_found():
    # So it is no power computed from the observed effect.
    runs = study(plain=[1, 2, 4, 5], a=[1.5, 2.5, 4.5, 5.4], b=[11.5, 12.5, 14.5, 15.4])
    a, b = compare(runs)["resolvable"]
    assert a == pytest.approx(b, rel=1e-9)
    same = study(plain=[1, 2, 4, 5], BN=[5, 4, 2, 1])  # a difference of 0 has a spread, too
    assert compare(same)["resolvable"][0] == pytest.approx(
        compare(study(plain=[1, 2, 4, 5], BN=[6, 5, 3, 2]))["resolvable"][0]
    )


def test_a_difference_of_the_resolvable_size_is_resolved_in_four_of_five_studies(rng):
    seeds, trials, found = 10, 400, 0
    spread = math.sqrt(2 / seeds)
    truth = (scipy_stats.t.isf(0.025, 18) + scipy_stats.t.ppf(0.8, 18)) * spread
    for _ in range(trials):
        runs = study(plain=rng.normal(size=seeds), BN=truth + rng.normal(size=seeds))
        found += compare(runs)["verdict"][0] == "better"
    assert abs(found / trials - 0.8) < 3 * math.sqrt(0.8 * 0.2 / trials) + 0.01, "Bloom's formula is approximate"


def test_summary_of_students_sleep_data():
    # By hand: the first drug's values sum to 7.5 and their squares to 34.43, so the variance is
    # (34.43 - 7.5 * 0.75) / 9 = 3.200556. The table of t has 2.262157 for 9 degrees of freedom.
    first = stats.summary(study(**SLEEP), "test_accuracy", "method").iloc[0]
    half = 2.262157 * math.sqrt(3.200556 / 10)
    assert (first["runs"], first["mean"]) == (10, pytest.approx(0.75))
    assert first["sd"] == pytest.approx(math.sqrt(3.200556), rel=1e-6)
    assert (first["low"], first["high"]) == pytest.approx((0.75 - half, 0.75 + half), rel=1e-6)


def with_p(p):
    """Two differences whose paired t test has this p: with one degree of freedom, t = cot(pi p / 2)."""
    t = 1 / math.tan(math.pi * p / 2)
    return np.array([t - 1, t + 1])


def test_holm_correction_of_four_p_values():
    # Holm (1979). By hand, for 0.01, 0.04, 0.03, 0.005: sorted and times 4, 3, 2, 1 they are 0.02, 0.03, 0.06, 0.04;
    # and none may be smaller than the one before it, so the last becomes 0.06.
    settings = {name: with_p(p) for name, p in zip("abcd", (0.01, 0.04, 0.03, 0.005), strict=True)}
    frame = compare(study(plain=[0, 0], **settings), paired=True)
    assert list(frame["p"]) == pytest.approx([0.01, 0.04, 0.03, 0.005])
    assert list(frame["p_holm"]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(frame["verdict"]) == ["better", "not resolved", "not resolved", "better"]


def test_all_comparisons_of_a_call_are_one_family():
    runs = pd.concat([study(plain=[0, 0], a=with_p(p)).assign(hidden=p) for p in (0.02, 0.03)])
    frame = compare(runs, within="hidden", paired=True)
    assert list(frame["p_holm"]) == pytest.approx([0.04, 0.04])
    assert list(frame["hidden"]) == [0.02, 0.03]


def test_each_interval_has_the_level_at_which_holm_judges_its_row():
    # The four p of above: levels 0.05 / 4 for 0.005 and 0.05 / 3 for 0.01; 0.03 > 0.05 / 2 stops it there.
    settings = {name: with_p(p) for name, p in zip("abcd", (0.01, 0.04, 0.03, 0.005), strict=True)}
    runs = study(plain=[0, 0], **settings)
    frame = compare(runs, paired=True)
    for row, level in zip(frame.itertuples(), (0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4), strict=True):
        half = scipy_stats.t.isf(level / 2, 1) * 1.0  # the standard error of {t - 1, t + 1} is 1
        assert (row.low, row.high) == pytest.approx((row.difference - half, row.difference + half))


def test_an_interval_holds_0_exactly_where_nothing_is_resolved(rng):
    for paired in (False, True):
        frame = compare(
            random_study(rng, "abcdefgh", cells=tuple("vwxyz"), gain=0.4), baseline="a", within="hidden", paired=paired
        )
        holds_0 = (frame["low"] < 0) & (frame["high"] > 0)
        assert set(frame["verdict"]) == {"better", "not resolved"}
        assert list(holds_0) == list(frame["verdict"] == "not resolved")


def test_what_is_identical_in_every_run_is_no_comparison():
    # Holm (1979) would otherwise count rows that can never be significant, and hide one that is.
    runs = study(plain=[0, 0], a=with_p(0.03), b=[0, 0], c=[0, 0])
    frame = compare(runs, paired=True)
    assert list(frame["verdict"]) == ["better", "identical", "identical"]
    assert frame["p_holm"][0] == pytest.approx(0.03)
    assert frame[["p", "p_holm", "low", "high", "resolvable"]].iloc[1:].isna().all(axis=None)
    assert list(frame["difference"][1:]) == [0, 0]
    assert frame.attrs["comparisons"] == 1


def test_pairing_that_does_not_help_shows_welchs_interval_beside_it():
    runs = study(plain=[1, 2, 3, 4], helped=[2.1, 3, 4.1, 5], hurt=[5, 4, 3, 2])
    frame = compare(runs, paired=True).set_index("setting")
    assert frame["r"]["helped"] > 0.9
    assert frame["r"]["hurt"] == pytest.approx(-1)
    assert math.isnan(frame["welch_low"]["helped"])
    paired, welch = ((frame[high] - frame[low])["hurt"] for low, high in (("low", "high"), ("welch_low", "welch_high")))
    assert paired > welch > 0


def test_r_needs_three_pairs_that_vary():
    assert math.isnan(compare(study(plain=[1, 2], BN=[3, 5]))["r"][0])
    assert math.isnan(compare(study(plain=[1, 1, 1], BN=[3, 5, 6]))["r"][0])


def test_independent_runs_may_differ_in_number():
    (row,) = compare(RUNS.iloc[:-1]).itertuples()
    assert row.runs == 2
    assert row.p == pytest.approx(scipy_stats.ttest_ind([0.6, 0.8], [0.5, 0.6, 0.7], equal_var=False).pvalue)


# Approval of the President's performance by 1600 Americans in two surveys (Agresti 1990, p. 350):
# 794 approved twice, 150 in the first only, 86 in the second only, 570 never.
def answers(both, only_a, only_b, neither):
    """y_true, a and b with these counts, as classes 7 (right) and 1 (wrong)."""
    a = [7] * both + [7] * only_a + [1] * only_b + [1] * neither
    b = [7] * both + [1] * only_a + [7] * only_b + [1] * neither
    return [7] * len(a), a, b


def test_mcnemar_of_agrestis_surveys():
    result = stats.mcnemar(*answers(794, 150, 86, 570))
    assert (result.only_a, result.only_b, result.verdict) == (150, 86, "worse")
    assert result.difference == pytest.approx(880 / 1600 - 944 / 1600)
    # Agresti: z squared = 17.36, p = 0.00003 (approximate test); interval -0.06 to -0.02.
    assert result.p == pytest.approx(2 * sum(math.comb(236, k) for k in range(87)) / 2**236, rel=1e-9)
    assert result.p == pytest.approx(scipy_stats.chi2.sf(17.36, 1), rel=0.25)
    assert (round(result.low, 2), round(result.high, 2)) == (-0.06, -0.02)


def test_mcnemar_interval_of_agresti_and_min():
    # The example of R's PropCIs::diffpropci.mp: counts 40 and 20 among 160 give -0.21601726 to -0.03089632.
    result = stats.mcnemar(*answers(50, 40, 20, 50))
    assert (result.low, result.high) == pytest.approx((-0.21601726, -0.03089632), abs=5e-9)
    assert result.difference == -20 / 160


def test_mcnemar_by_hand():
    # One against eight: p = 2 (1 + 9) / 2^9.
    result = stats.mcnemar(*answers(3, 1, 8, 4))
    assert (result.p, result.verdict) == (pytest.approx(20 / 512), "better")
    assert stats.mcnemar(*answers(3, 0, 6, 0)).p == pytest.approx(2 / 64)
    assert stats.mcnemar(*answers(3, 5, 0, 0)).verdict == "not resolved", "p = 2 / 32"


def test_mcnemar_of_networks_that_never_disagree():
    result = stats.mcnemar(*answers(5, 0, 0, 5))
    assert (result.difference, result.p, result.verdict) == (0, 1, "not resolved")
    assert result.low == -result.high < 0, "equal on these images is not equal on all"


def test_mcnemar_counts_right_answers_only():
    # Two different wrong answers are no disagreement about what is right.
    result = stats.mcnemar([1, 1, 2], [1, 5, 2], [1, 6, 3])
    assert (result.only_a, result.only_b) == (1, 0)


def test_mcnemar_interval_stays_within_possible_differences():
    assert stats.mcnemar(*answers(0, 0, 3, 0)).high == 1
    assert stats.mcnemar(*answers(0, 3, 0, 0)).low == -1


# Properties


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_a_shift_of_all_runs_changes_no_comparison(rng):
    runs = random_study(rng)
    moved = runs.assign(test_accuracy=runs["test_accuracy"] + 3)
    pd.testing.assert_frame_equal(compare(runs, within="hidden"), compare(moved, within="hidden"))


def test_what_differs_between_seeds_only_is_no_spread(rng):
    runs = random_study(rng)
    moved = runs.assign(test_accuracy=runs["test_accuracy"] + 5 * runs["seed"])
    paired = {"within": "hidden", "paired": True}
    ignored = ["r", "welch_low", "welch_high"]  # what they share correlates them, and widens Welch's interval
    one, other = (compare(frame, **paired).drop(columns=ignored, errors="ignore") for frame in (runs, moved))
    pd.testing.assert_frame_equal(one, other)


def test_exchanging_setting_and_baseline_flips_the_sign(rng):
    runs = random_study(rng, settings=("plain", "BN"), cells=("a",), gain=2.0)
    (there,), (back,) = compare(runs).to_dict("records"), compare(runs, baseline="BN").to_dict("records")
    assert there["difference"] == pytest.approx(-back["difference"])
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert there["p"] == pytest.approx(back["p"])
    assert (there["verdict"], back["verdict"]) == ("better", "worse")


def test_the_order_of_the_rows_does_not_matter(rng):
    runs = random_study(rng)
    keys = ["hidden", "setting"]
    shuffled = runs.sample(frac=1, random_state=1)
    frames = [compare(frame, within="hidden").sort_values(keys, ignore_index=True) for frame in (runs, shuffled)]
    pd.testing.assert_frame_equal(*frames)


def test_rows_come_in_order_of_first_appearance(rng):
    runs = random_study(rng, settings=("z", "plain", "a"), cells=("y", "x"))
    frame = compare(runs, within="hidden")
    assert list(zip(frame["hidden"], frame["setting"], strict=True)) == list(itertools.product("yx", "za"))
    summary = stats.summary(runs, "test_accuracy", ["hidden", "method"])
    expected = list(itertools.product("yx", ("z", "plain", "a")))
    assert list(zip(summary["hidden"], summary["method"], strict=True)) == expected


def test_columns(rng):
    frame = compare(random_study(rng).assign(depth=1), within=["hidden", "depth"])
    assert list(frame.columns) == [
        "hidden", "depth", "setting", "baseline", "runs", "difference", "low", "high", "p", "p_holm", "verdict", "r",
        "resolvable",
    ]  # fmt: skip
    assert frame.attrs == {"metric": "test_accuracy", "confidence": 0.95, "comparisons": 4}


def test_holm_keeps_the_order_and_only_adds(rng):
    frame = compare(random_study(rng, cells="abcdefgh", gain=1.0), within="hidden").sort_values("p")
    assert frame["p_holm"].is_monotonic_increasing
    assert (frame["p_holm"] >= frame["p"]).all()
    assert frame["p_holm"].max() <= 1


@pytest.mark.parametrize("metric", ["test_loss", "seconds", "error_rate", "test_cross_entropy"])
def test_of_a_loss_less_is_better(metric):
    runs = study(**SLEEP).rename(columns={"test_accuracy": metric})
    assert list(compare(runs, metric=metric, paired=True)["verdict"]) == ["worse"]
    assert list(compare(runs, metric=metric, paired=True, higher_is_better=True)["verdict"]) == ["better"]
    assert list(compare(study(**SLEEP), paired=True, higher_is_better=False)["verdict"]) == ["worse"]


def test_confidence_sets_interval_and_verdict():
    strict = compare(study(**SLEEP), paired=True, confidence=0.999).iloc[0]  # p = 0.0028
    half = scipy_stats.t.isf(0.0005, 9) * 1.58 / 4.062128
    assert (strict["low"], strict["high"]) == pytest.approx((1.58 - half, 1.58 + half), rel=1e-5)
    assert strict["verdict"] == "not resolved"


def test_pairs_by_several_columns(rng):
    runs = random_study(rng, settings=("plain", "BN"), cells=("a", "b"))
    assert compare(runs, pair=["hidden", "seed"], paired=True)["runs"][0] == 12


def test_rounding_is_no_difference():
    (row,) = compare(study(plain=[0.3, 0.6, 0.7], BN=[0.1 + 0.2, 0.6, 0.7])).itertuples()
    assert (row.difference, row.verdict) == (0, "identical")


def test_the_runs_are_left_as_they_were(rng):
    runs = random_study(rng)
    before = runs.copy()
    compare(runs, within="hidden")
    stats.summary(runs, "test_accuracy", "hidden")
    pd.testing.assert_frame_equal(runs, before)


def test_none_is_a_setting():
    runs = study(**SLEEP).replace({"method": {"plain": None}})
    (row,) = compare(runs, baseline=None).itertuples()
    assert (row.setting, row.baseline, row.runs) == ("BN", "None", 10)
    rates = compare(RUNS.assign(rate=[0.1] * 3 + [None] * 3), by="rate", baseline=0.1)
    assert rates["setting"][0] == "None"


def test_summary_of_single_runs_has_no_spread():
    frame = stats.summary(study(plain=[0.5], BN=[0.6, 0.6]), "test_accuracy", "method")
    assert list(frame["runs"]) == [1, 2]
    assert frame[["sd", "low", "high"]].iloc[0].isna().all()
    assert list(frame[["sd", "low", "high"]].iloc[1]) == pytest.approx([0, 0.6, 0.6])


# Simulation: is the promise of 95% kept?

STUDIES = 300


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_cover_the_true_difference_as_often_as_they_say(rng, paired):
    # Each study is a call of its own, so its interval is not widened for others. With pairs, what belongs to the seed
    # is the same in both settings.
    seeds, covered = 4, 0
    for _ in range(STUDIES):
        luck = rng.normal(size=seeds)
        other = luck if paired else rng.normal(size=seeds)
        (row,) = compare(
            study(plain=luck, BN=other + 0.3 + paired * rng.normal(size=seeds)), paired=paired
        ).itertuples()
        covered += row.low < 0.3 < row.high
    assert covered / STUDIES > 0.95 - 3 * math.sqrt(0.95 * 0.05 / STUDIES)
    assert covered < STUDIES


def test_where_nothing_differs_few_studies_find_anything(rng):
    # Seven comparisons in each study: without correction more than one study in six would "find" a difference.
    studies, found, uncorrected = 100, 0, 0
    for _ in range(studies):
        frame = compare(random_study(rng, "abcdefgh", cells=("x",), seeds=4), baseline="a")
        found += any(frame["verdict"] != "not resolved")
        uncorrected += any(frame["p"] < 0.05)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert found / studies < limit < uncorrected / studies


# Refusals

RUNS = study(plain=[0.5, 0.6, 0.7], BN=[0.6, 0.8, 0.7])


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (study(plain=[0.5], BN=[0.6]), {}, "one run each cannot tell a difference from luck, so record more seeds"),
        (study(plain=[0.5, 0.6], BN=[0.6]), {}, "too few runs to compare BN with plain"),
        (RUNS.iloc[:0], {}, "no runs to look at"),
        (RUNS, {"metric": "accuracy"}, "no column accuracy; there are method, seed, test_accuracy"),
        (RUNS, {"within": "depth"}, "no column depth"),
        (RUNS, {"pair": "fold"}, "no column fold"),
        (RUNS, {"within": "method"}, "method is asked for twice"),
        (RUNS, {"metric": "name"}, "name does not hold numbers"),
        (RUNS, {"baseline": "GN"}, "No run has method GN.*there are plain, BN"),
        (RUNS.iloc[:3], {}, "All runs have method plain"),
        (RUNS, {"confidence": 95}, "between 0 and 1"),
        (RUNS.iloc[:-1], {"paired": True}, "These runs of plain have no partner among those of BN: seed 3; record"),
        (RUNS.iloc[1:], {"paired": True}, "These runs of BN have no partner among those of plain: seed 1; record"),
        (RUNS.assign(depth=[1, 1, 1, 2, 2, 2]), {"within": "depth"}, "no run with depth 2, method plain"),
        (pd.concat([RUNS, RUNS.iloc[:1]]), {}, "2 runs have method plain, seed 1.*`within`"),
        (RUNS.assign(test_accuracy=[1, 2, math.nan, math.inf, 3, 4]), {}, "2 of 6 values of test_accuracy are not"),
        (
            study(plain=[0.5, 0.6], BN=[0.6, 0.7]),
            {"paired": True},
            "BN and plain differ by the same amount in all 2 runs",
        ),
        (study(plain=[0.5, 0.5], BN=[0.6, 0.6]), {}, "BN and plain differ by the same amount in all 2 runs"),
    ],
)
def test_compare_refuses(runs, options, message):
    runs = runs.assign(name="x")
    if "accuracy;" in message:
        runs = runs.drop(columns="name")
    with pytest.raises(LabError, match=message):
        compare(runs, **options)


def test_a_refusal_says_where():
    runs = pd.concat([RUNS.assign(hidden=32), RUNS.iloc[:-1].assign(hidden=64)])
    with pytest.raises(LabError, match=r"of BN \(hidden 64\): seed 3;"):
        compare(runs, within="hidden", paired=True)


def test_summary_refuses_what_is_not_finite():
    with pytest.raises(LabError, match="1 of 6 values"):
        stats.summary(RUNS.assign(test_accuracy=[1, 2, math.nan, 4, 5, 6]), "test_accuracy", "method")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1, 2], np.zeros((2, 10)), np.zeros((2, 10))), r"\(2, 10\).*argmax"),
        (([1, 2], [1, 2], [1]), r"\(2,\) and \(1,\)"),
        (([], [], []), "n classes"),
        (([1, 2], [0.1, 0.9], [1, 2]), "whole numbers"),
        (([1, 2], [1, 2], [1, math.nan]), "whole numbers"),
    ],
)
def test_mcnemar_refuses(arrays, message):
    with pytest.raises(LabError, match=message):
        stats.mcnemar(*arrays)


def test_mcnemar_takes_whole_floats():
    assert stats.mcnemar([1.0, 2.0], [1, 1], np.array([1, 2], dtype=np.uint8)).only_b == 1


# Tables

COMPARISONS = pd.DataFrame(
    {
        "hidden": ["<32>", "64", "128"],
        "setting": "BN",
        "baseline": "plain",
        "runs": [5, 5, 1200],
        "difference": [0.00123, -0.04, 0.0],
        "low": [-0.00123, -0.05, math.nan],
        "high": [0.0034, -0.03, math.nan],
        "p": [0.0044, 0.00001, math.nan],
        "p_holm": [0.0088, 0.00003, math.nan],
        "verdict": ["not resolved", "worse", "identical"],
        "r": [-0.123, 0.5, math.nan],
        "resolvable": [0.00004, 0.03, math.nan],
    }
)
COMPARISONS.attrs["comparisons"] = 2


def test_table_of_comparisons_as_text():
    assert str(stats.table(COMPARISONS.drop(columns=["baseline", "p_holm"]))).splitlines() == [
        "+--------+---------+-------+------------+--------------------+---------+--------------+-------+------------+",
        "| hidden | setting |  runs | difference | 95% interval, Holm |       p | verdict      |     r | resolvable |",
        "+--------+---------+-------+------------+--------------------+---------+--------------+-------+------------+",
        "| <32>   | BN      |     5 |     0.0012 |  [-0.0012, 0.0034] |   0.004 | not resolved | -0.12 |    4.0e-05 |",
        "| 64     | BN      |     5 |    -0.0400 | [-0.0500, -0.0300] | < 0.001 | worse        |  0.50 |     0.0300 |",
        "| 128    | BN      | 1,200 |     0.0000 |                    |         | identical    |       |            |",
        "+--------+---------+-------+------------+--------------------+---------+--------------+-------+------------+",
    ]
    assert stats.table(COMPARISONS).field_names == [
        "hidden", "setting", "baseline", "runs", "difference", "95% interval, Holm", "p", "p (Holm)", "verdict", "r",
        "resolvable",
    ]  # fmt: skip


def test_table_with_welchs_interval_beside_the_paired_one():
    frame = compare(study(plain=[1, 2, 3, 4], helped=[2.1, 3, 4.1, 5], hurt=[5, 4, 3, 2]), paired=True)
    made = stats.table(frame)
    assert "Welch's 95% interval, Holm" in made.field_names
    welch = [row[-1] for row in made.rows]
    assert welch[0] == ""
    assert welch[1].startswith("[")


def test_table_as_html_is_escaped_and_aligned():
    html = stats.table(COMPARISONS[["hidden", "p"]].iloc[1:2].assign(hidden="<b>"))._repr_html_()
    cell = '<td style="padding-left: 1em; padding-right: 1em; text-align: {}; vertical-align: top">{}</td>'
    assert [line.strip() for line in html.splitlines() if "<td" in line] == [
        cell.format("left", "&lt;b&gt;"),
        cell.format("right", "&lt; 0.001"),
    ]
    assert html.startswith("<table") and "script" not in html


def test_table_of_runs():
    runs = pd.DataFrame(
        {
            "rate": [0.1, 1e-05],
            "norm": [True, False],
            "test_loss": [0.123456, math.nan],
            "seconds": [1234.56, 7.0],
            "parameters": [318010, 10],
            "history": [{"loss": [1.0]}] * 2,
        }
    )
    rows = stats.table(runs).rows
    assert stats.table(runs).field_names == ["rate", "norm", "test loss", "seconds", "parameters"]
    assert rows == [["0.1", "True", "0.1235", "1,234.6", "318,010"], ["1e-05", "False", "", "7.0", "10"]]


def test_table_of_a_summary():
    frame = stats.summary(study(plain=[0.5], BN=[0.5, 0.75]), "test_accuracy", "method")
    made = stats.table(frame)
    assert made.field_names == ["method", "runs", "mean", "sd", "95% interval"]
    assert made.rows == [
        ["plain", "1", "0.5000", "", "one run"],
        ["BN", "2", "0.6250", "0.1768", "[-0.9633, 2.2133]"],
    ]


def test_table_has_the_digits_of_the_metric_and_the_level_of_the_interval():
    runs = study(plain=[1, 2, 4], BN=[11, 12, 15]).rename(columns={"test_accuracy": "seconds"})
    made = stats.table(compare(runs, metric="seconds", confidence=0.9, paired=True))
    assert made.get_csv_string().splitlines()[1].startswith('BN,plain,3,10.3,"[9.4, 11.3]"')
    assert "90% interval" in made.field_names


def test_table_of_mcnemar():
    made = stats.table(stats.mcnemar(*answers(794, 150, 86, 570)))
    assert made.field_names == ["only a", "only b", "difference", "95% interval", "p", "verdict"]
    assert made.rows == [["150", "86", "-0.0400", "[-0.0587, -0.0212]", "< 0.001", "worse"]]


def test_table_leaves_the_frame_as_it_was():
    before = COMPARISONS.copy()
    stats.table(COMPARISONS)
    pd.testing.assert_frame_equal(COMPARISONS, before)


def test_mcnemar_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.mcnemar([1], [1], [2]).p = 0.0


def test_importing_is_cheap():
    heavy = {"scipy", "pandas", "statsmodels", "prettytable", "keras"}
    code = f"import sys; from labkit import stats; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
