"""Exercises of lab 05: convolutional networks and batch normalization."""

import numpy as np

from labkit.exercises.core import WrongAnswer, call, exercise, number_exercise, prediction, several

prediction("05.gain", "by how many points does batch normalization raise the test accuracy?", -10, 10, " points")
prediction("05.inference", "which share is read rightly in inference mode, after a hundred batches?", low=0, high=1)
prediction("05.shifted", "how accurate is the CNN on test digits moved by four pixels?", low=0, high=1)


@exercise(
    "05.slide",
    hints=[
        "Lay the kernel on the left three columns. Multiply the nine pairs, and add: that is the first number.",
        "First: -1 from the upper row, 6 - 4 from the middle one, 4 from the lower one. Then move on by one column.",
    ],
    solution="(5, 1). On the left: (0 - 1) + (6 - 4) + 4. On the right: (2 - 1) + (0 - 0) + 0.",
)
def slide(answer):
    """The two numbers of a 3x3 kernel on a 3x4 image."""
    given = tuple(several(np.ravel(answer).tolist() if isinstance(answer, np.ndarray) else answer, 2))
    complaints = {
        (1, 5): "right numbers, wrong order: the kernel starts on the left.",
        (-1, -1): "you turned the kernel by half a turn, as mathematics does. Here it is laid on as it is.",
        (-3, 0): "you swapped the kernel's rows and columns.",
        (15, 3): "you left the signs out: some of the weights are negative.",
        (13, 12): "that is the sum of the pixels. Multiply each by the weight that lies on it first.",
    }
    if given in complaints:
        return complaints[given]
    if np.allclose(given, (5 / 9, 1 / 9), atol=0.01):
        return "that is the mean of the nine products. A convolution adds them."
    if given[0] != 5:
        return "the first number is not right. Multiply the left three columns by the kernel, pair by pair, and add."
    if given[1] != 1:
        return "the first number is right. For the second, move the kernel one column to the right."


@exercise(
    "05.max-pool",
    hints=[
        "How many squares fit? `len(feature_map) // 2` rows of them. A number that is left over belongs to none.",
        "The square in row r and column c is feature_map[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]. Take its maximum.",
    ],
    solution="""
def max_pool(feature_map):
    rows, columns = np.array(feature_map.shape) // 2
    return np.array([
        [feature_map[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].max() for c in range(columns)]
        for r in range(rows)
    ])
""",
)
def max_pool(answer):
    """A function: the maxima of the 2x2 squares of an array, without what is left over."""
    rng = np.random.default_rng(5)
    even, odd = rng.normal(size=(4, 6)), rng.normal(size=(5, 7))  # about half of the numbers are negative
    given = np.asarray(call(answer, even.copy()))

    def squares(array):
        rows, columns = np.array(array.shape) // 2
        return array[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)

    def same(array, reference):
        return array.shape == reference.shape and np.allclose(array, reference)

    if same(given, squares(even).mean(axis=(1, 3))):
        return "that is the mean of each square. Max pooling keeps the largest number."
    if same(given, squares(even).min(axis=(1, 3))):
        return "that is the smallest number of each square."
    if same(given, np.maximum(0, squares(even).max(axis=(1, 3)))):
        return "a square of negative numbers became 0: its largest number is negative. Do not start from 0."
    if same(given, np.abs(squares(even)).max(axis=(1, 3))):
        return "you took the largest size, whatever the sign. The largest of -3 and 1 is 1."
    if same(given, even[::2, ::2]):
        return "you kept the upper left number of each square, and not the largest."
    if given.shape == (3, 5):
        return "your squares overlap: the next one begins two places on, not one."
    if given.ndim == 0:
        return "that is one number for the whole map. There is one for each square of 2x2."
    if given.shape != (2, 3):
        return f"a map of 4 rows and 6 columns becomes one of shape {given.shape}; it should be (2, 3)."
    if not same(given, squares(even).max(axis=(1, 3))):
        return "the shape is right, the numbers are not: each is the largest of four neighbours."
    try:
        given = np.asarray(call(answer, odd.copy()))
    except WrongAnswer as error:
        raise WrongAnswer(f"right for even sides. With 5 rows and 7 columns: {error}") from None
    if given.shape != (2, 3):
        return (
            f"right for even sides. From 5 rows and 7 columns it makes {given.shape}; what is left over is dropped, "
            "so it should be (2, 3)."
        )
    if not same(given, squares(odd).max(axis=(1, 3))):
        return "right for even sides. With 5 rows and 7 columns, the last row and column are the ones to drop."


@exercise(
    "05.shapes",
    hints=[
        "A 3x3 kernel fits into 28 places in a row 26 times. Pooling halves, and drops what is left over.",
        "28, 26, 13, 11, 5. `flatten` lays out all maps of pool_2: how many are there, and of which size?",
    ],
    solution="(26, 13, 11, 5, 1600). A 3x3 convolution takes 2 off the side, pooling halves it and rounds down; "
    "64 maps of 5 x 5 are 1,600 numbers.",
)
def shapes(answer):
    """Sides after conv_1, pool_1, conv_2, pool_2, and the length of flatten."""
    given = several(answer, 5)
    sides, flat = given[:4], given[4]
    if sides == [28, 14, 14, 7]:
        return "these are the sides if the image gets a margin of zeros (padding='same'). This network has none."
    if sides == [25, 12, 9, 4]:
        return "a 3x3 kernel takes 2 off the side, not 3: it fits into 3 places once."
    if sides == [27, 13, 12, 6]:
        return "a 3x3 kernel takes 2 off the side, not 1: one at each end."
    if sides[3] in (5.5, 6):
        return "11 is odd: pooling drops the last row and column, so round down."
    for name, side, right in zip(("conv_1", "pool_1", "conv_2", "pool_2"), sides, (26, 13, 11, 5), strict=True):
        if side != right:
            return f"the first that is not right is {name}. A 3x3 convolution takes off 2, pooling halves."
    if flat == 25:
        return "the sides are right. 25 is one map; pool_2 has one for each filter of conv_2."
    if flat == 320:
        return "the sides are right. That is 5 * 64; a map has 5 * 5 numbers."
    if flat == 800:
        return "the sides are right. The maps of pool_2 are as many as conv_2 has filters, and not conv_1."
    if flat != 1600:
        return "the sides are right. `flatten` lays out all maps of pool_2, 64 of 5 x 5."


@exercise(
    "05.parameters",
    hints=[
        "A filter has 3 * 3 weights for each channel that it sees, and one bias. How many filters are there?",
        "conv_1: 32 * (9 + 1). conv_2: 64 * (9 * 32 + 1). The dense layers: inputs times units, plus units.",
    ],
    solution="(320, 18496, 102464, 650): 32 * (9 * 1 + 1), 64 * (9 * 32 + 1), 1600 * 64 + 64 and 64 * 10 + 10. "
    "The pooling layers and flatten have none.",
)
def parameters(answer):
    """Parameters of conv_1, conv_2, hidden and digit."""
    given = several(answer, 4)
    right = [320, 18_496, 102_464, 650]
    if given == right:
        return None
    if given == [288, 18_432, 102_400, 640]:
        return "you left the biases out: one for each filter, one for each unit."
    if given == [9, 9, 1600, 64]:
        return "those are the weights of one filter or unit. How many are there in each layer?"
    if given[0] == 320 and given[1] == 640:
        return "each filter of conv_2 has 3x3 weights for *each* of the 32 channels that it sees."
    if given[1] == 20_480:
        return "the bias of conv_2 belongs to the filter, and not to each of its 32 channels."
    if given[2] == 3136 * 64 + 64:
        return "hidden gets what flatten lays out: 64 maps of 5x5, and not of 7x7."
    if given[0] == 32 * 26 * 26 * 10 or given[0] == 32 * 26 * 26:
        return "a filter has the same nine weights at every place: do not multiply by the places."
    names = ("conv_1", "conv_2", "hidden", "digit")
    wrong = [name for name, value, true in zip(names, given, right, strict=True) if value != true]
    return f"not right: {', '.join(wrong)}. Together the four should make 121,930; yours make {sum(given):,g}."


number_exercise(
    "05.receptive-field",
    question="The side of the receptive field of a number in pool_2.",
    right=10,
    wrong={
        3: "that is conv_1, or what conv_2 sees of pool_1. How many pixels of the image are that?",
        4: "that is pool_1. Two layers are still to come.",
        8: "that is conv_2. Pooling joins two of its neighbours, and they see a little more than one.",
        6: "after pool_1, a step of one place is a step of two pixels.",
        7: "after pool_1, a step of one place is a step of two pixels.",
        9: "two neighbours in conv_2 are two pixels of the image apart, not one.",
        12: "neighbouring squares overlap: do not multiply their sides.",
        16: "neighbouring squares overlap: do not multiply their sides.",
        36: "neighbouring squares overlap: do not multiply their sides.",
        100: "that is its area. Give the side.",
        28: "then it would see the whole image. It sees about a third of its side.",
    },
    otherwise="go from layer to layer: how many neighbours does it join, and how many pixels apart are they?",
    hints=[
        "Two neighbours in pool_1 are two pixels apart. Three of them in a row see 4 + 2 + 2 pixels.",
        "That is conv_2: 8. Two neighbours in conv_2 are two pixels apart, too.",
    ],
    solution="10. conv_1 sees 3, pool_1 sees 3 + 1 = 4, conv_2 sees 4 + 2 + 2 = 8, pool_2 sees 8 + 2 = 10.",
)

number_exercise(
    "05.norm-count",
    question="The parameters that three batch normalizations add: 32 maps, 64 maps and 64 units.",
    right=640,
    wrong={
        320: "that is two each. Gamma and beta are two; the moving averages are parameters as well, untrained.",
        160: "that is the number of maps and units. Each has four numbers.",
        384: "those are the two after convolutions. The dense layer hidden is normalized, too.",
        256: "that is the one after conv_2 or after hidden. Add all three.",
        128: "that is the one after conv_1. Add all three.",
        512: "one of the three is missing: there are 32 maps, 64 maps and 64 units.",
        4 * (32 * 26 * 26 + 64 * 11 * 11 + 64): "each *map* has four numbers, and not each place in it.",
        4 * (32 * 26 * 26 + 64 * 11 * 11): "each *map* has four numbers, and not each place in it; and hidden counts.",
        4 * (32 * 13 * 13 + 64 * 5 * 5 + 64): "each *map* has four numbers, and not each place in it.",
        12: "each normalization has four numbers for every map or unit.",
        122_570: "that is the whole network. How many have been added to 121,930?",
    },
    otherwise="four numbers for each of 32 maps, 64 maps and 64 units.",
    hints=[
        "How many maps does conv_1 put out, how many conv_2? And how many units has hidden?",
        "4 * (32 + 64 + 64)",
    ],
    solution="4 * (32 + 64 + 64) = 640, half of them trained. The size of the maps does not matter.",
)

number_exercise(
    "05.moving",
    question="After how many batches is less than a thousandth of the start left, with momentum 0.99?",
    right=688,
    wrong={
        687: "very close: after 687 batches it is still a little above a thousandth.",
        689: "very close, but one batch less is enough.",
        459: "that is a hundredth. A thousandth takes longer.",
        458: "that is about a hundredth. A thousandth takes longer.",
        100: "each batch takes a hundredth of what is *left*, and not of the start.",
        99: "each batch takes a hundredth of what is *left*, and not of the start.",
        1000: "each batch takes a hundredth of what is left, so it is not one thousandth at a time.",
        66: "that would be right for a momentum of 0.9.",
        69: "that is the place where a half is left. Go on.",
        230: "that is a tenth. A thousandth is three times as far.",
        300: "count with logarithms to the end: a tenth is left after 230 batches, and not after 100.",
    },
    otherwise="after n batches, 0.99 to the power of n is left. For which n is that below 1 / 1000?",
    hints=[
        "After n batches, 0.99**n is left. Try a few n.",
        "n is the first whole number above log(1 / 1000) / log(0.99).",
    ],
    solution="688: 0.99**687 is still just above 1 / 1000. That is more than two epochs of ten thousand images.",
)


@exercise(
    "05.anywhere",
    hints=[
        "`flatten` keeps every place apart. If you do not care where, what do you ask of a map: how much? how often?",
        "There are layers that make one number of each map: keras.layers.GlobalMaxPooling2D, GlobalAveragePooling2D.",
    ],
    solution="""
def anywhere():
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.GlobalMaxPooling2D(),  # in place of Flatten
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ])
""",
)
def anywhere(answer):
    """A function: source B's plain network that gives a digit moved by four pixels the same answer."""
    model = call(answer)
    if not hasattr(model, "layers") or not hasattr(model, "count_params"):
        return f"the function returns a {type(model).__name__}. It should return a Keras model."
    import keras

    if model.input_shape[1:] != (28, 28, 1):
        return f"images have the shape (28, 28, 1); this model wants {model.input_shape[1:]}."
    if model.output_shape[1:] != (10,):
        return f"one number for each of ten digits should come out; here it is the shape {model.output_shape[1:]}."
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if [(layer.filters, layer.kernel_size) for layer in convolutions] != [(32, (3, 3)), (64, (3, 3))]:
        return "keep the two convolutions of source B: 32 and 64 filters of 3x3."
    if any(layer.padding != "valid" or layer.strides != (1, 1) for layer in convolutions):
        return "keep the convolutions as source B has them: no padding, and steps of one pixel."
    if not any(isinstance(layer, keras.layers.MaxPooling2D) for layer in model.layers):
        return "keep the pooling after the convolutions: only one layer is to be exchanged."
    relu = [getattr(layer, "activation", None) is keras.activations.relu for layer in model.layers]
    if sum(relu) + sum(isinstance(layer, keras.layers.ReLU) for layer in model.layers) < 3:
        return "keep the ReLU after each convolution and in the dense layer of 64 units."
    # Ink that all maps see, before and after it has been moved.
    rng = np.random.default_rng(5)
    images = np.zeros((6, 28, 28, 1), dtype="float32")
    images[:, 10:18, 10:18, 0] = rng.random((6, 8, 8))
    moved = [np.roll(images, move, axis=(1, 2)) for move in ((-4, 0), (0, -4), (-4, -4))]
    here, *there = (np.asarray(model(x, training=False)) for x in (images, *moved))
    if not np.allclose(here.sum(axis=1), 1, atol=1e-3) or here.min() < 0:
        return "what comes out are not probabilities: the last layer has a softmax in source B's network."
    if max(abs(other - here).max() for other in there) > 1e-4:
        if any(isinstance(layer, keras.layers.Flatten) for layer in model.layers):
            return "moved ink gets another answer: behind `Flatten`, each place has weights of its own."
        return "moved ink gets another answer. Which of your layers still knows the place?"
    if np.ptp(here, axis=0).max() < 1e-6:
        return "all images get the same answer, whatever is on them. That is too much of a good thing."
    if model.count_params() != 23_626:
        return (
            f"it does not care where, but it has {model.count_params():,} parameters. With one layer exchanged, and "
            "64 units in the dense layer, it should have 23,626."
        )
