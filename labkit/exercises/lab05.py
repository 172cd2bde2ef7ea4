"""Exercises of lab 05: convolutional networks and batch normalization."""

import math

import numpy as np

from labkit.exercises.core import (
    Right,
    Wrong,
    WrongAnswer,
    call,
    exercise,
    first_difference,
    number_exercise,
    prediction,
    several,
)

prediction("05.gain", "by how many points does batch normalization raise the test accuracy?", -10, 10, " points")
prediction("05.inference", "which share is read rightly in inference mode, after a hundred batches?", low=0, high=1)
prediction("05.shifted", "how accurate is the CNN on test digits moved by four pixels?", low=0, high=1)


@exercise(
    "05.slide",
    hints=[
        "Lay the kernel on the left three columns. Multiply the nine pairs, and add: that is the first number.",
        "First: -1 from the upper row, 6 - 4 from the middle one, 4 from the lower one. Then move on by one column.",
    ],
    solution="""
answer = (5, 1)  # on the left (0 - 1) + (6 - 4) + 4, on the right (2 - 1) + (0 - 0) + 0
""",
)
def slide(answer):
    """The two numbers of a 3x3 kernel on a 3x4 image."""
    given = several(_in_a_row(answer), 2)
    complaints = {
        (1, 5): "right numbers, wrong order: the kernel starts on the left.",
        (-1, -1): "you turned the kernel by half a turn, as mathematics does. Here it is laid on as it is.",
        (-3, 0): "you swapped the kernel's rows and columns.",
        (15, 3): "you left the signs out: some of the weights are negative.",
        (13, 12): "that is the sum of the pixels. Multiply each by the weight that lies on it first.",
    }
    for mistake, complaint in complaints.items():
        if first_difference(given, mistake) is None:
            return Wrong(complaint)
    if np.allclose(given, (5 / 9, 1 / 9), atol=0.01):
        return Wrong("that is the mean of the nine products. A convolution adds them.")
    differs = first_difference(given, (5, 1))
    if differs == 0:
        return Wrong(
            "the first number is not right. Multiply the left three columns by the kernel, pair by pair, and add."
        )
    if differs == 1:
        return Wrong("the first number is right. For the second, move the kernel one column to the right.")
    return Right()


def _in_a_row(answer):
    """A feature map as the row of its numbers, whether it came as an array or as a list of lists."""
    try:
        return [part for row in answer for part in np.ravel(row)] if np.ndim(answer) == 2 else answer
    except Exception:  # nothing that NumPy can make an array of; `several` says what it is
        return answer


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
    given = _as_map(call(answer, even))

    def squares(array):
        rows, columns = np.array(array.shape) // 2
        return array[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)

    def same(array, reference):
        return array.shape == reference.shape and np.allclose(array, reference)

    if same(given, squares(even).mean(axis=(1, 3))):
        return Wrong("that is the mean of each square. Max pooling keeps the largest number.")
    if same(given, squares(even).min(axis=(1, 3))):
        return Wrong("that is the smallest number of each square.")
    if same(given, np.maximum(0, squares(even).max(axis=(1, 3)))):
        return Wrong("a square of negative numbers became 0: its largest number is negative. Do not start from 0.")
    if same(given, np.abs(squares(even)).max(axis=(1, 3))):
        return Wrong("you took the largest size, whatever the sign. The largest of -3 and 1 is 1.")
    if same(given, even[::2, ::2]):
        return Wrong("you kept the upper left number of each square, and not the largest.")
    if same(given, np.lib.stride_tricks.sliding_window_view(even, (2, 2)).max(axis=(2, 3))):
        return Wrong("your squares overlap: the next one begins two places on, not one.")
    if given.ndim == 0:
        return Wrong("that is one number for the whole map. There is one for each square of 2x2.")
    if given.shape != (2, 3):
        return Wrong(f"a map of 4 rows and 6 columns becomes one of shape {given.shape}; it should be (2, 3).")
    if not same(given, squares(even).max(axis=(1, 3))):
        return Wrong("the shape is right, the numbers are not: each is the largest of four neighbours.")
    try:
        given = _as_map(call(answer, odd))
    except WrongAnswer as error:
        raise WrongAnswer(f"right for even sides. With 5 rows and 7 columns: {error}") from None
    if given.shape != (2, 3):
        return Wrong(
            f"right for even sides. From 5 rows and 7 columns it makes {given.shape}; what is left over is dropped, "
            "so it should be (2, 3)."
        )
    if not same(given, squares(odd).max(axis=(1, 3))):
        return Wrong("right for even sides. With 5 rows and 7 columns, the last row and column are the ones to drop.")
    return Right()


def _as_map(result):
    """What the student's function returned, as an array of numbers."""
    try:
        return np.asarray(result, dtype=float)
    except Exception:
        raise WrongAnswer(
            f"the function returns a {type(result).__name__} that is no array of numbers: return an array with a row "
            "for each row of squares."
        ) from None


@exercise(
    "05.shapes",
    hints=[
        "A 3x3 kernel fits into 28 places in a row 26 times. Pooling halves, and drops what is left over.",
        "28, 26, 13, 11, 5. `flatten` lays out all maps of pool_2: how many are there, and of which size?",
    ],
    solution="""
# A 3x3 convolution takes 2 off the side, pooling halves it and rounds down; 64 maps of 5 x 5 are 1,600 numbers.
answer = (26, 13, 11, 5, 1600)
""",
)
def shapes(answer):
    """Sides after conv_1, pool_1, conv_2, pool_2, and the length of flatten."""
    given, right = several(answer, 5), [26, 13, 11, 5, 1600]
    sides, flat = given[:4], given[4]
    if sides == [28, 14, 14, 7]:
        return Wrong("these are the sides if the image gets a margin of zeros (padding='same'). This network has none.")
    if sides == [25, 12, 9, 4]:
        return Wrong("a 3x3 kernel takes 2 off the side, not 3: it fits into 3 places once.")
    if sides == [27, 13, 12, 6]:
        return Wrong("a 3x3 kernel takes 2 off the side, not 1: one at each end.")
    if sides in ([26, 13, 11, 5.5], [26, 13, 11, 6]):
        return Wrong("11 is odd: pooling drops the last row and column, so round down.")
    differs = first_difference(given, right)
    if differs is None:
        return Right()
    if differs < 4:
        name = ("conv_1", "pool_1", "conv_2", "pool_2")[differs]
        return Wrong(f"the first that is not right is {name}. A 3x3 convolution takes off 2, pooling halves.")
    if flat == 25:
        return Wrong("the sides are right. 25 is one map; pool_2 has one for each filter of conv_2.")
    if flat == 320:
        return Wrong("the sides are right. That is 5 * 64; a map has 5 * 5 numbers.")
    if flat == 800:
        return Wrong("the sides are right. The maps of pool_2 are as many as conv_2 has filters, and not conv_1.")
    return Wrong("the sides are right. `flatten` lays out all maps of pool_2, 64 of 5 x 5.")


@exercise(
    "05.parameters",
    hints=[
        "A filter has 3 * 3 weights for each channel that it sees, and one bias. How many filters are there?",
        "conv_1: 32 * (9 + 1). conv_2: 64 * (9 * 32 + 1). The dense layers: inputs times units, plus units.",
    ],
    solution="""
# The pooling layers and flatten have none.
answer = (32 * (9 * 1 + 1), 64 * (9 * 32 + 1), 1600 * 64 + 64, 64 * 10 + 10)
""",
)
def parameters(answer):
    """Parameters of conv_1, conv_2, hidden and digit."""
    given, right = several(answer, 4), [320, 18_496, 102_464, 650]
    differs = first_difference(given, right, rtol=1e-9)
    if differs is None:
        return Right()
    if given == [288, 18_432, 102_400, 640]:
        return Wrong("you left the biases out: one for each filter, one for each unit.")
    if given == [9, 9, 1600, 64]:
        return Wrong("those are the weights of one filter or unit. How many are there in each layer?")
    if given[0] == 320 and given[1] == 640:
        return Wrong("each filter of conv_2 has 3x3 weights for *each* of the 32 channels that it sees.")
    if given[1] == 20_480:
        return Wrong("the bias of conv_2 belongs to the filter, and not to each of its 32 channels.")
    if given[2] == 3136 * 64 + 64:
        return Wrong("hidden gets what flatten lays out: 64 maps of 5x5, and not of 7x7.")
    if given[0] in (32 * 26 * 26 * 10, 32 * 26 * 26):
        return Wrong("a filter has the same nine weights at every place: do not multiply by the places.")
    if sorted(given) == sorted(right):
        return Wrong("right numbers, wrong order: conv_1, conv_2, hidden, digit.")
    name = ("conv_1", "conv_2", "hidden", "digit")[differs]
    total = "" if sum(given) == sum(right) else f" Together the four make 121,930; yours make {sum(given):,.10g}."
    return Wrong(f"the first that is not right is {name}.{total}")


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
    solution="answer = 10  # conv_1 sees 3, pool_1 3 + 1 = 4, conv_2 4 + 2 + 2 = 8, pool_2 8 + 2 = 10",
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
    solution="answer = 4 * (32 + 64 + 64)  # half of them trained; the size of the maps does not matter",
)

number_exercise(
    "05.moving",
    question="After how many batches is less than a thousandth of the start left, with momentum 0.99?",
    right=688,
    wrong={
        math.log(1 / 1000)
        / math.log(0.99): "batches come whole: which is the first that brings it below a thousandth?",
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
    solution="""
# 0.99**687 is still just above 1 / 1000. It takes more than two epochs of ten thousand images.
answer = 688
""",
)


@exercise(
    "05.anywhere",
    hints=[
        "`flatten` keeps every place apart. If you do not care where, what do you ask of a map: how much? how often?",
        "Copy from `build` what it does for the plain network, with GlobalMaxPooling2D() in the place of Flatten.",
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
        return Wrong(f"the function returns {_article(type(model).__name__)}. It should return a Keras model.")
    wanted = getattr(model, "input_shape", None)  # None where it is not built yet
    if isinstance(wanted, tuple) and not _fits(wanted[1:]):
        return Wrong(f"images have the shape (28, 28, 1); this model wants {wanted[1:]}.")
    # Ink that all maps see, before and after it has been moved.
    images = np.zeros((6, 28, 28, 1), dtype="float32")
    images[:, 10:18, 10:18, 0] = np.random.default_rng(5).random((6, 8, 8))
    moved = [np.roll(images, move, axis=(1, 2)) for move in ((-4, 0), (0, -4), (-4, -4))]
    here, *there = (_outputs(model, x) for x in (images, *moved))
    if here.shape != (6, 10):
        return Wrong(
            f"one number for each of ten digits should come out; here it is the shape {here.shape[1:]} for each image."
        )
    if not _is_kept(model, here, images) and (complaint := _not_kept(model)):
        return Wrong(complaint)
    if not (np.allclose(here.sum(axis=1), 1, atol=1e-3) and here.min() >= 0):
        return Wrong("what comes out are not probabilities: the last layer has a softmax in source B's network.")
    if not max(abs(other - here).max() for other in there) <= 1e-4:
        if any(type(layer).__name__ == "Flatten" for layer in _all_layers(model)):
            return Wrong("moved ink gets another answer: behind `Flatten`, each place has weights of its own.")
        return Wrong("moved ink gets another answer. Which of your layers still knows the place?")
    if not np.ptp(here, axis=0).max() >= 1e-6:
        return Wrong("all images get the same answer, whatever is on them. That is too much of a good thing.")
    if model.count_params() != 23_626:
        return Wrong(
            f"it does not care where, but it has {model.count_params():,} parameters. With one layer exchanged, and "
            "64 units in the dense layer, it should have 23,626."
        )
    return Right()


def _fits(shape):
    """Whether a network whose input has this shape takes our images: (28, 28, 1), or sides that it leaves open."""
    return len(shape) in (2, 3) and all(side in (None, ours) for side, ours in zip(shape, (28, 28, 1), strict=False))


def _outputs(model, images):
    """What the student's network puts out for these images, at inference, as an array."""
    try:
        return np.asarray(model(images, training=False), dtype=float)
    except Exception:
        pass  # its `call` may take no `training`; what else is wrong shows again
    try:
        return np.asarray(model(images), dtype=float)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise WrongAnswer(
            f"given images of the shape (28, 28, 1), the network stopped with {type(error).__name__}: {first}"
        ) from None


def _is_kept(model, outputs, images):
    """Whether it computes what source B's network does, with maxima or means of the maps in place of Flatten.

    However it is written: its weights, put into that network, give the same outputs.
    """
    from keras import Input, Sequential, layers

    for middle in (layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D):
        parts = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)]
        parts += [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), middle()]
        parts += [layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")]
        reference = Sequential([Input((28, 28, 1)), *parts])
        weights = model.get_weights()
        if [one.shape for one in weights] != [one.shape for one in reference.get_weights()]:
            return False
        reference.set_weights(weights)
        if np.allclose(np.asarray(reference(images, training=False)), outputs, atol=1e-5):
            return True
    return False


def _not_kept(model):
    """What is not as in source B's network, as a sentence; None where all that can be seen is."""
    found = _all_layers(model)
    convolutions = [layer for layer in found if type(layer).__name__ == "Conv2D"]
    if [(layer.filters, layer.kernel_size) for layer in convolutions] != [(32, (3, 3)), (64, (3, 3))]:
        return "keep the two convolutions of source B: 32 and 64 filters of 3x3."
    if any(layer.padding != "valid" or layer.strides != (1, 1) for layer in convolutions):
        return "keep the convolutions as source B has them: no padding, and steps of one pixel."
    if not any(type(layer).__name__ == "MaxPooling2D" for layer in found):
        return "keep the pooling after the convolutions: only one layer is to be exchanged."
    if sum(_is_relu(layer) for layer in found) < 3:
        return "keep the ReLU after each convolution and in the dense layer of 64 units."
    return None


def _is_relu(layer):
    """Whether a layer is a ReLU or ends in one, whatever the function is called."""
    if type(layer).__name__ == "ReLU":
        return True
    try:
        return np.allclose(np.asarray(layer.activation(np.array([-2.0, 0.0, 3.0], dtype="float32"))), [0, 0, 3])
    except Exception:
        return False


def _all_layers(model):
    """All layers of a network, those of networks inside it included."""
    found = []
    for layer in getattr(model, "layers", []):
        found += _all_layers(layer) if hasattr(layer, "layers") else [layer]
    return found


def _article(kind):
    return f"a{'n' * (kind[:1].lower() in 'aeiou')} {kind}"
