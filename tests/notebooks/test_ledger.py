"""Lab 90 builds each network as its source did: layers in order, first weights, sizes, data and schedule.

What stands here was read from the five write-ups, line by line, and is written down without the lab's own shorthand.
"""

import json

import numpy as np
import pytest

from labtools import studies
from labtools.project import ROOT

GLOROT = "GlorotUniform"
LAB = ROOT / "notebooks" / "90_reproduction.ipynb"


def dense(units, activation="relu", first=GLOROT):
    return [("Dense", units, activation, first)]


def out(first=GLOROT):
    return dense(10, "softmax", first)


def conv(filters):
    return [("Conv2D", filters, "relu", GLOROT)]


def dropout(rate):
    return [("Dropout", rate)]


BN, POOL, FLAT = [("BatchNormalization",)], [("MaxPooling2D", (2, 2))], [("Flatten",)]


def nine(sizes, sds, after=()):
    """A network of source E: the softmax layer has Keras's first weights, normalization comes after the ReLU."""
    layers = list(FLAT)
    for i, units in enumerate(sizes):
        layers += dense(units, first=("RandomNormal", sds[min(i, 1)])) + list(after)
    return layers + out()


TWO = FLAT + dense(512) + dense(512) + out()
TWO_DROPPED = FLAT + dense(512) + dropout(0.2) + dense(512) + dropout(0.2) + out()
SIZES = [(256, 64), (512, 256, 128), (512, 256, 128, 64, 32)]
LAYERS = {
    "A1": TWO,
    "A2": FLAT + dense(512, "sigmoid") + dense(512, "sigmoid") + out(),
    "A3": TWO_DROPPED,
    "A5": TWO,
    "B1": conv(32) + POOL + conv(64) + POOL + FLAT + dense(64) + out(),
    "B2": conv(32) + POOL + dropout(0.25) + conv(64) + POOL + dropout(0.25) + FLAT + dense(64) + dropout(0.5) + out(),
    "B3": conv(32) + BN + POOL + conv(64) + BN + POOL + FLAT + dense(64) + BN + out(),
    "C1": FLAT + dense(400, "sigmoid") + out(),
    "C2": FLAT + dense(60, "sigmoid") + out(),
    "C3": FLAT + 11 * dense(9, "sigmoid") + out(),
    "C4": FLAT + 11 * dense(49, "sigmoid") + out(),
    "C5": FLAT + 11 * dense(99, "sigmoid") + out(),
    "C6": FLAT + 4 * dense(400, "sigmoid") + out(),
    "D3": TWO,
    "D4": TWO_DROPPED,
    "D5": FLAT + dense(512) + BN + dense(512) + BN + out(),
    "D6": TWO,
    "D7": TWO,
    "D8": TWO,
}
for i, sizes in enumerate(SIZES, start=1):
    LAYERS[f"E{i}"] = nine(sizes, (0.062, 0.125))
    LAYERS[f"E{i + 3}"] = nine(sizes, (0.039, 0.55), BN)
    LAYERS[f"E{i + 6}"] = nine(sizes, (0.039, 0.55), BN + dropout(0.5))

PARAMETERS = {
    "A1": 669_706, "A2": 669_706, "A3": 669_706, "A5": 669_706, "B1": 121_930, "C1": 318_010, "C2": 47_710,
    "C3": 8_065, "C4": 63_465, "C5": 177_715, "C6": 799_210, "E1": 218_058, "E2": 567_434, "E3": 576_810,
    "E4": 219_338, "E5": 571_018, "E6": 580_778, "E7": 219_338, "E8": 571_018, "E9": 580_778,
}  # fmt: skip
NOT_TRAINED = {"E4": 640, "E7": 640, "E5": 1_792, "E8": 1_792, "E6": 1_984, "E9": 1_984}

# source: optimizer, learning rate, loss, batch size, epochs, training images, validation images
WAYS = {
    "A": ("SGD", 0.01, "categorical_crossentropy", 128, 50, 60_000, 10_000),
    "B": ("Adam", 0.001, "sparse_categorical_crossentropy", 32, 10, 50_000, 10_000),
    "C": ("SGD", 0.01, "categorical_crossentropy", 128, 10, 54_000, 6_000),
    "D": ("Adam", 0.001, "categorical_crossentropy", 32, 10, 48_000, 12_000),
    "E": ("Adam", 0.001, "categorical_crossentropy", 128, 20, 60_000, 10_000),
}
OTHER_WAYS = {
    "A5": ("SGD", 0.01, "sparse_categorical_crossentropy", 128, 50, 54_000, 6_000),
    "C6": ("SGD", 0.01, "categorical_crossentropy", 128, 40, 54_000, 6_000),
    "D7": ("SGD", 0.01, "binary_crossentropy", 32, 10, 48_000, 12_000),
    "D8": ("RMSprop", 0.001, "mse", 32, 10, 48_000, 12_000),
}


@pytest.fixture(scope="module")
def lab():
    """The names that the lab's cells make which say what is trained, and those that build D1 and D2."""
    import nbformat

    scope = {"__name__": "lab"}
    for cell in nbformat.read(LAB, as_version=4).cells:
        if "study" in cell.metadata.get("tags", []) or cell.id == "d1":
            exec(compile(cell.source, cell.id, "exec"), scope)
    return scope


def first_weights(layer):
    initializer = layer.kernel_initializer
    name = type(initializer).__name__
    return (name, initializer.stddev) if name == "RandomNormal" else name


def described(layer):
    kind = type(layer).__name__
    if kind == "Dense":
        return kind, layer.units, layer.activation.__name__, first_weights(layer)
    if kind == "Conv2D":
        assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (1, 1), "valid")
        return kind, layer.filters, layer.activation.__name__, first_weights(layer)
    return {"Dropout": lambda: (kind, layer.rate), "MaxPooling2D": lambda: (kind, layer.pool_size)}.get(
        kind, lambda: (kind,)
    )()


def test_every_trained_row_is_in_the_ledger(lab):
    assert set(lab["ROWS"]) == set(LAYERS)


@pytest.mark.parametrize("row", LAYERS)
def test_layers_and_first_weights(lab, row):
    model = lab["build_row"](row)
    assert [described(layer) for layer in model.layers] == LAYERS[row]
    weighted = [layer for layer in model.layers if hasattr(layer, "bias_initializer")]
    assert {type(layer.bias_initializer).__name__ for layer in weighted} == {"Zeros"}
    assert not any(layer.kernel_regularizer for layer in weighted)
    if row in PARAMETERS:
        assert model.count_params() == PARAMETERS[row]
    if row in NOT_TRAINED:
        assert sum(int(np.prod(weight.shape)) for weight in model.non_trainable_weights) == NOT_TRAINED[row]


@pytest.mark.parametrize("row", LAYERS)
def test_optimizer_loss_and_schedule(lab, row):
    model = lab["build_row"](row)
    optimizer = model.optimizer
    found = (
        type(optimizer).__name__,
        round(float(optimizer.learning_rate), 6),
        model.loss,
        lab["row_batch_size"](row),
        lab["row_epochs"](row),
    )
    assert found == OTHER_WAYS.get(row, WAYS[row[0]])[:5]
    assert not getattr(optimizer, "momentum", 0)


@pytest.mark.parametrize("row", ["A1", "A5", "B1", "C1", "C6", "D3", "E4"])
def test_images_and_labels(lab, row):
    from labkit.data import has_mnist

    if not has_mnist():
        pytest.skip("MNIST is not here")
    data = lab["load_row"](row)
    assert (len(data.x_train), len(data.x_valid)) == OTHER_WAYS.get(row, WAYS[row[0]])[5:]
    assert len(data.x_test) == 10_000
    assert data.x_train.max() == (255 if row[0] == "C" else 1), "source C does not scale the pixels"
    assert (data.y_train.ndim == 1) == ("sparse" in OTHER_WAYS.get(row, WAYS[row[0]])[2])
    watched = row in ("A1", "E4")  # the test images
    assert np.array_equal(data.x_valid[:50], data.x_test[:50]) == watched


def test_a4_asks_the_network_with_dropout_and_a5_stops_early(lab):
    (question,) = lab["callbacks_row"]("A3")
    assert type(question).__name__ == "Question"
    (stopping,) = lab["callbacks_row"]("A5")
    kept = (stopping.monitor, abs(stopping.min_delta), stopping.patience, stopping.restore_best_weights, stopping.mode)
    assert kept == ("val_loss", 1e-3, 4, True, "min")
    assert not [row for row in LAYERS if row not in ("A3", "A5", "C1", "C2") and lab["callbacks_row"](row)]


def test_source_c_fits_c1_and_c2_twice_more_and_last_on_the_test_images(lab, monkeypatch):
    """And neither C6 nor the deep networks."""
    import keras

    fits = []

    class Model(keras.Sequential):
        def fit(self, x, y, **options):
            fits.append(
                (len(x), len(options.get("validation_data", [()])[0]), options["epochs"], options["batch_size"])
            )
            return super().fit(x[:8], y[:8], **options | {"validation_data": None, "epochs": 1})

    rows = np.eye(10, dtype="float32")

    class Data:
        x_train, y_train = np.zeros((30, 784), "float32"), rows[[1] * 30]
        x_valid, y_valid = np.zeros((3, 784), "float32"), rows[[1] * 3]
        x_test, y_test = np.zeros((20, 784), "float32"), rows[[1] * 20]

    lab_class = lab["FitTwiceMore"]
    monkeypatch.setattr(keras.models, "clone_model", lambda model: Model(model.layers))
    callback = lab_class(Data())
    callback.set_model(lab["build_row"]("C2"))
    noted = callback.ask()
    assert fits == [(30, 3, 10, 128), (20, 0, 10, 128)]
    assert {"b_accuracy", "t_accuracy", "t_loss"} <= set(noted)


def test_d1_and_d2_have_equal_counts_and_are_not_the_same(lab):
    d1, d2 = lab["d1"], lab["d2"]
    assert d1.count_params() == d2.count_params() == 849_930
    he = {"HeNormal"}
    for model, plain in ((d1, ["H-Layer-1"]), (d2, [])):
        dense_layers = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
        assert [layer.units for layer in dense_layers] == [512, 512, 1024, 10]
        assert [layer.activation.__name__ for layer in dense_layers] == ["relu"] * 3 + ["softmax"]
        for layer in dense_layers:
            if layer.name in plain:
                assert (first_weights(layer), layer.kernel_regularizer) == (GLOROT, None)
            else:
                assert {first_weights(layer)} == he
                assert float(layer.kernel_regularizer.l2) == pytest.approx(0.01)


def test_lab_05_trains_source_bs_networks(lab):
    found = {one.name: one for one in studies.of_notebook(ROOT / "notebooks" / "05_cnn_batchnorm.ipynb")}
    source_b = found["05.source-b"]
    for method, row in {"plain": "B1", "dropout": "B2", "batch norm": "B3"}.items():
        model = source_b.functions["build"](method)
        assert [described(layer) for layer in model.layers] == LAYERS[row]
    assert (source_b.epochs, source_b.batch_size) == (10, 32)


# What the sources report, as lab 90 quotes it. (Source C prints three significant digits.)
REPORTED = {
    "A1": ["97.23%", "0.0914", "0.8730", "0.9406"], "A2": ["90.77%", "0.3187", "0.2339"], "A3": ["97.35%", "0.0870"],
    "A5": ["97.10%", "0.0989", "50", "49"], "B1": ["99.18%", "0.0381", "3", "0.9894", "0.0489", "0.9976", "0.0071"],
    "B2": ["99.17%", "0.9902", "0.0365", "0.9799", "0.0671"], "B3": ["99.10%", "0.9908", "0.0330", "0.9980", "0.0064"],
    "C1": ["0.942", "0.201", "9.9"], "C2": ["0.917", "0.311", "3.4"], "C3": ["0.113", "2.3"], "C4": ["0.113", "2.3"],
    "C5": ["0.101", "2.3"], "C6": ["0.93", "0.276", "66.9"], "C1b": ["0.9645", "0.9552", "0.1378", "0.9712"],
    "C2b": ["0.9453", "0.9355", "0.2033", "0.9341"], "C1t": ["0.9796", "0.9535", "0.0889"],
    "C2t": ["0.9420", "0.9308", "0.2118"], "D3": ["97.83%"], "D4": ["97.91%"], "D5": ["97.90%"], "D6": ["0.9797"],
    "D7": ["0.9350"], "D8": ["0.9792"], "E1": ["98.08%", "0.0900"], "E2": ["98.01%", "0.1026"],
    "E3": ["98.23%", "0.0762"], "E4": ["97.67%", "0.0935"], "E5": ["98.19%", "0.0769"], "E6": ["98.15%", "0.0742"],
    "E7": ["97.95%", "0.0713"], "E8": ["98.18%", "0.0657"], "E9": ["97.60%", "0.1029"],
}  # fmt: skip


def test_reported_numbers_are_the_sources():
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(LAB.read_text("utf-8"))["cells"]}
    scope = {}
    for name in ("reported-abc", "reported-b-last", "reported-de"):
        exec(cells[name], scope)
    assert {row: list(numbers.values()) for row, numbers in scope["REPORTED"].items()} == REPORTED
