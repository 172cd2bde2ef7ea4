"""Lab 90's exercises: name -> (facts, right answers, wrong answers each with a piece of what they are told)."""

CASES = {
    "90.interval": (
        {},
        [0.0061, 0.00608, 2.776 * 0.002 * 1.2**0.5],
        [
            (2.776 * 0.002 / 5**0.5, "the *mean*"),
            (2.776 * 0.002, "the mean itself is uncertain"),
            (2.776 * 0.002 * 1.2, "square root"),
            (0.002 * 1.2**0.5, "left out t"),
            (1.96 * 0.002 * 1.2**0.5, "1.96"),
            (2 * 0.00608, "the whole interval"),
            (0.1, "Multiply t"),
        ],
    ),
    "90.rounding": (
        {},
        [10, 10.0],
        [
            (1, "9,421"),
            (100, "second digit"),
            (5, "up as well as down"),
            (9, "one end belongs"),
            (11, "only one of the two ends"),
            (20, "a thousandth, is how many"),
            (1000, "a thousandth of the images"),
            (7, "From which count on"),
        ],
    ),
    "90.by-luck": (
        {},
        [5, 5.0],
        [
            (0, "endless"),
            (95, "the ones inside"),
            (1, "99%"),
            (2.5, "on one side"),
            (50, "50%"),
            (7, "Nineteen of twenty"),
        ],
    ),
}
