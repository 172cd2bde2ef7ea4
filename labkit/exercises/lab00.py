"""The exercise of the index, for trying out how exercises work."""

from labkit.exercises.core import number_exercise

number_exercise(
    "00.pixels",
    question="How many pixels has an image of 28 rows and 28 columns?",
    right=784,
    wrong={
        28: "that is one row. How many rows are there?",
        56: "you added rows and columns. Each row has 28 pixels, and there are 28 rows: multiply.",
        112: "that is the length of the border. How many pixels are there in all?",
        785: "one too many: a bias is no pixel.",
    },
    otherwise="multiply rows by columns.",
    hints=["An image is a square of 28 rows with 28 pixels each.", "28 * 28, please."],
    solution="answer = 28 * 28  # 784: each of the 28 rows has 28 pixels",
)
