"""Exercises of lab 90: the sources' experiments, repeated."""

from labkit.exercises.core import number_exercise, prediction

prediction("90.rows", "for how many of the twenty-eight rows is the first number reproduced?", low=0, high=28)

number_exercise(
    "90.interval",
    question="How far from the mean of five runs with a standard deviation of 0.002 may the next one lie?",
    right=0.00608,
    tolerance=0.015,
    wrong={
        0.00248: "that is how far the *mean* may be off: t * s / sqrt(n). One more run scatters more than a mean.",
        0.00555: "you left out that the mean itself is uncertain: the factor sqrt(1 + 1/5).",
        0.00666: "almost: it is the square root of 1 + 1/5.",
        0.00219: "you left out t, which is 2.776 for four degrees of freedom.",
        0.00429: "you took 1.96 for t. That is for a standard deviation that is known; yours comes from five runs.",
        0.0121: "that is the length of the whole interval, from its lower to its upper end.",
    },
    otherwise="that is not it. Multiply t, the standard deviation, and the square root of 1 + 1/n, for n = 5.",
    hints=[
        "The formula is above: t * s * sqrt(1 + 1/n). Which of the three numbers are given?",
        "t = 2.776, s = 0.002, n = 5. The square root of 1.2 is a little less than 1.1.",
    ],
    solution="answer = 2.776 * 0.002 * (1 + 1 / 5) ** 0.5  # 0.0061",
)

number_exercise(
    "90.rounding",
    question="How many counts of right answers among 10,000 give an accuracy that is printed as 0.942?",
    right=10,
    wrong={
        1: "9,420 gives 0.942 exactly. But 9,421 gives 0.9421, which is printed as 0.942, too.",
        100: "that would be a unit of the second digit. The last digit counts thousandths.",
        5: "these are the ones on one side. It is rounded up as well as down.",
        9: "almost: 0.9415 rounds up to 0.942, so one end belongs to it.",
        11: "almost: 0.9425 rounds to 0.943, so only one of the two ends belongs to it.",
        20: "a unit of the last digit, a thousandth, is how many of 10,000 images?",
        1000: "a unit of the last digit is a thousandth of the images, and there are 10,000.",
    },
    otherwise="that is not it. From which count on does the accuracy round to 0.942, and up to which?",
    hints=[
        "How many of 10,000 images are a thousandth?",
        "The smallest count is 9,415. The first that is rounded to 0.943 is 9,425.",
    ],
    solution="answer = 9_424 - 9_415 + 1  # 0.9415 is the first that rounds to 0.942, 0.9424 the last",
)

number_exercise(
    "90.by-luck",
    question="Of a hundred numbers that are each reproduced faithfully, how many lie outside their 95% interval?",
    right=5,
    wrong={
        0: "an interval that held every run would be endless. This one is made to miss some.",
        95: "those are the ones inside.",
        1: "that would be an interval of 99%.",
        2.5: "those are the ones on one side. A number may be too large as well as too small.",
        50: "that would be an interval of 50%.",
    },
    otherwise="that is not it. Nineteen of twenty are inside: how many of a hundred are not?",
    hints=["What does the 95 in 95% count?", "One of twenty falls out, although nothing is wrong."],
    solution="answer = 0.05 * 100  # although nothing at all is wrong",
)
