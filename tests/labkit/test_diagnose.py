"""What `diagnose` measures, against closed forms, NumPy and finite differences; then what it leaves alone, refuses."""

import math
import subprocess
import sys

import keras
import matplotlib as mpl
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

mpl.use("agg")
import matplotlib.pyplot as plt

from labkit import plots
from labkit.diagnose import Diagnosis, diagnose, snapshot, update_ratios, updates
from labkit.errors import LabError

CLASSES = 4
RNG = np.random.default_rng(1)
X = RNG.normal(size=(12, 5))
Y = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 0, 2])
ONE_HOT = np.eye(CLASSES)[Y]
IMAGES = RNG.normal(size=(12, 4, 4, 1))
SPARSE = "sparse_categorical_crossentropy"
FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(1)


def sequential(*stack, shape=(5,), loss=SPARSE, **options):
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, **options)
    return model


def functional(inputs, outputs, loss=SPARSE):
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss=loss)
    return model


def digit(activation="softmax", **options):
    return layers.Dense(CLASSES, activation, **options)


def column(diagnosis, name):
    return diagnosis.layers[name].tolist()


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropies(logits):
    """The loss of each image."""
    return -np.log(softmax(logits)[np.arange(len(logits)), Y])


def slopes(function, at, step=1e-5):
    """Central differences of a function's values by each number of the array `at`, which is changed in place."""
    found = []
    for i in np.ndindex(at.shape):
        middle = at[i]
        at[i] = middle + step
        above = function()
        at[i] = middle - step
        found.append((above - function()) / (2 * step))
        at[i] = middle
    return np.array(found)


# Gradients


@pytest.mark.parametrize(
    ("stack", "loss", "y"),
    [
        (lambda: [digit()], SPARSE, Y),
        (lambda: [digit()], "categorical_crossentropy", ONE_HOT),
        (lambda: [digit(None)], FROM_LOGITS, Y),
        (lambda: [digit(None), layers.Activation("softmax")], SPARSE, Y),
        (lambda: [digit(None), layers.Softmax()], SPARSE, Y),
        (lambda: [digit(tf.nn.softmax)], SPARSE, Y),
    ],
)
def test_gradient_by_the_logits_is_p_minus_one_hot(stack, loss, y):
    model = sequential(*stack(), loss=loss)
    kernel, bias = model.get_weights()
    error = softmax(X @ kernel + bias) - ONE_HOT
    found = diagnose(model, X, y)
    assert column(found, "output_gradient") == pytest.approx([np.linalg.norm(error, axis=1).mean()] * len(model.layers))
    by_weights = np.linalg.norm(np.vstack([X.T @ error, error.sum(axis=0)]) / len(X))
    assert column(found, "weight_gradient")[0] == pytest.approx(by_weights, rel=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_by_weights_against_finite_differences(training):
    precise = {"dtype": "float64"}
    model = sequential(
        layers.Conv2D(2, 2, activation="tanh", kernel_regularizer="l2", **precise),
        layers.BatchNormalization(**precise),
        layers.Flatten(**precise),
        digit(kernel_regularizer="l2", **precise),
        shape=(4, 4, 1),
    )
    images = IMAGES.astype("float32")

    def loss():
        p = model(images, training=training).numpy()
        return -np.log(p[np.arange(len(Y)), Y]).mean()

    def by(variable):
        at = variable.numpy()

        def changed():
            variable.assign(at)
            return loss()

        found = slopes(changed, at)
        variable.assign(at)
        return found

    expected = [
        math.sqrt(sum(np.square(by(variable)).sum() for variable in layer.trainable_variables))
        for layer in model.layers
        if layer.trainable_variables
    ]
    found = diagnose(model, images, Y, training=training)
    assert found.layers["weight_gradient"].dropna().tolist() == pytest.approx(expected, rel=1e-7)
    assert found.loss == pytest.approx(loss(), rel=1e-7), "of the data, without the penalties"


def test_gradients_by_outputs_against_finite_differences():
    """With a residual connection, so that the loss depends on the first layer's output in two ways."""
    x = keras.Input((5,))
    hidden = layers.Dense(3, "tanh")(x)
    branch = layers.Dense(3, "tanh")(hidden)
    model = functional(x, digit()(layers.Add()([hidden, branch])))
    w1, b1, w2, b2, w3, b3 = model.get_weights()
    h = np.tanh(X @ w1 + b1)
    g = np.tanh(h @ w2 + b2)
    s = h + g

    def mean_norm(losses, at):
        # An output of one image changes the loss of that image alone.
        return np.linalg.norm(slopes(losses, at).sum(axis=1).reshape(at.shape), axis=1).mean()

    expected = [
        mean_norm(lambda: cross_entropies((h + np.tanh(h @ w2 + b2)) @ w3 + b3), h),
        mean_norm(lambda: cross_entropies((h + g) @ w3 + b3), g),
        mean_norm(lambda: cross_entropies(s @ w3 + b3), s),
    ]
    found = diagnose(model, X, Y)
    assert column(found, "kind") == ["Dense", "Dense", "Add", "Dense"]
    assert column(found, "output_gradient")[:3] == pytest.approx(expected, rel=1e-5)


def test_gradient_by_the_output_of_a_layer_before_all_weights():
    model = sequential(layers.Rescaling(2.0), digit())
    kernel, bias = model.get_weights()
    by_output = (softmax(2 * X @ kernel + bias) - ONE_HOT) @ kernel.T
    expected = np.linalg.norm(by_output, axis=1).mean()
    assert column(diagnose(model, X, Y), "output_gradient")[0] == pytest.approx(expected, rel=1e-5)


# Signal


def test_spread_by_hand():
    model = sequential(layers.Dense(3, "tanh"), digit())
    w1, b1, w2, b2 = model.get_weights()
    h = np.tanh(X @ w1 + b1)
    expected = [h.std(axis=0).mean(), softmax(h @ w2 + b2).std(axis=0).mean()]
    assert column(diagnose(model, X, Y), "spread") == pytest.approx(expected, rel=1e-5)


def test_an_output_that_is_the_same_for_all_images_has_no_spread_at_all():
    constant = {"kernel_initializer": "zeros", "bias_initializer": keras.initializers.Constant(0.1)}
    model = sequential(layers.Dense(3, **constant), digit())
    assert column(diagnose(model, np.ones((500, 5)), np.zeros(500, int)), "spread") == [0, 0]


@pytest.mark.parametrize(
    ("activation", "edge"),
    # Where the slope is a twentieth of the steepest: 4 a (1 - a) = 0.05 for the sigmoid, 1 - a^2 = 0.05 for tanh.
    [("sigmoid", 2 * math.atanh(math.sqrt(0.95))), ("tanh", math.atanh(math.sqrt(0.95))), ("relu", 0.0)],
)
@pytest.mark.parametrize("place", ["inside", "Activation", "layer"])
def test_saturated_and_dead_by_hand(activation, edge, place):
    flat, steep = (-0.01, 0.01) if activation == "relu" else (edge + 0.01, edge - 0.01)
    z = np.array([[flat, flat, steep], [flat, steep, steep], [flat, steep, steep], [flat, steep, steep]])
    weights = {"kernel_initializer": "identity"}
    if place == "inside":
        stack = [layers.Dense(3, activation, **weights)]
    elif place == "Activation":
        stack = [layers.Dense(3, **weights), layers.Activation(activation)]
    elif activation == "relu":
        stack = [layers.Dense(3, **weights), layers.ReLU()]
    else:  # a layer that a layer has as its activation
        stack = [layers.Dense(3, layers.Activation(activation), **weights)]
    found = diagnose(sequential(*stack, digit(), shape=(3,)), z, Y[:4])
    *linear, saturated, answer = column(found, "saturated")
    assert saturated == pytest.approx(5 / 12)
    assert column(found, "dead")[-2] == pytest.approx(1 / 3)
    assert np.isnan([*linear, answer]).all(), "neither a linear layer nor softmax can saturate"


def test_softmax_that_keras_does_not_know_cannot_saturate():
    found = diagnose(sequential(layers.Dense(3, tf.nn.relu), digit(tf.nn.softmax)), X, Y)
    assert np.isnan(column(found, "saturated")).tolist() == np.isnan(column(found, "dead")).tolist() == [False, True]


def test_leaky_relu_does_not_die():
    for stack in ([layers.Dense(3), layers.LeakyReLU()], [layers.Dense(3, layers.LeakyReLU())]):
        assert column(diagnose(sequential(*stack, digit()), X, Y), "saturated")[-2] == 0


def test_a_dead_filter_of_a_convolution():
    model = sequential(layers.Conv2D(2, 2, activation="relu"), layers.Flatten(), digit(), shape=(4, 4, 1))
    kernel, _, *rest = model.get_weights()
    kernel[..., 1] = 0
    model.set_weights([kernel, np.array([0, -1]), *rest])
    images = IMAGES.copy()
    images[:, :2, :2, 0] = -kernel[..., 0, 0]  # one place where the other filter is 0 for every image
    z = np.lib.stride_tricks.sliding_window_view(images[..., 0], (2, 2), axis=(1, 2))
    alive = (z * kernel[..., 0, 0]).sum(axis=(3, 4))
    assert (alive[:, 0, 0] < 0).all()
    found = diagnose(model, images, Y)
    assert column(found, "dead")[0] == 0.5
    assert column(found, "saturated")[0] == pytest.approx(((alive <= 0).mean() + 1) / 2)
    assert column(found, "spread")[0] == pytest.approx(np.maximum(alive, 0).std(axis=0).mean() / 2, rel=1e-5)


# Models


def test_sequential_functional_and_shared_layers_give_the_same():
    stack = [layers.Dense(3, "sigmoid"), layers.Dense(3), layers.ReLU(), digit()]
    grown = keras.Sequential([keras.Input((5,))])
    for layer in stack:
        grown.add(layer)  # Keras builds its graph anew at each step
    grown.compile(loss=SPARSE)
    expected = diagnose(grown, X, Y)
    assert min(column(expected, "output_gradient")) > 0
    x = keras.Input((5,))
    h = x
    for layer in stack:
        h = layer(h)
    for model in (functional(x, h), sequential(*stack), grown):  # the last one has lent its layers
        found = diagnose(model, X, Y)
        assert found.layers.equals(expected.layers)
        assert repr(found) == repr(expected)


def test_depth_counts_the_layers_with_a_kernel():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(3)])
    model = sequential(
        layers.Rescaling(2.0), layers.Conv2D(2, 2), layers.BatchNormalization(), layers.PReLU(), layers.Flatten(),
        layers.Dense(3, trainable=False), inner, digit(), shape=(4, 4, 1),
    )  # fmt: skip
    found = diagnose(model, IMAGES, Y)
    assert column(found, "depth") == [0, 1, 1, 1, 1, 2, 3, 4]
    assert column(found, "parameters") == [0, 10, 4, 18, 0, 0, 24, 16]
    assert np.isnan(column(found, "weight_gradient")).tolist() == [
        not parameters for parameters in column(found, "parameters")
    ]
    assert column(found, "layer") == [layer.name for layer in model.layers]


def test_batch_normalization_in_both_modes():
    model = sequential(layers.BatchNormalization(epsilon=0.5), digit())
    # At first, the running averages are 0 and 1.
    assert column(diagnose(model, X, Y), "spread")[0] == pytest.approx(X.std(axis=0).mean() / math.sqrt(1.5))
    normal = X.std(axis=0) / np.sqrt(X.var(axis=0) + 0.5)
    assert column(diagnose(model, X, Y, training=True), "spread")[0] == pytest.approx(normal.mean(), rel=1e-5)


def test_dropout_in_both_modes():
    model = sequential(layers.Dropout(0.5), digit())
    same, n = np.ones((400, 5)), 400
    assert column(diagnose(model, same, np.zeros(n, int)), "spread")[0] == 0
    # Half of the ones become 0, the others 2.
    assert column(diagnose(model, same, np.zeros(n, int), training=True), "spread")[0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_is(fails):
    function = keras.layers.LeakyReLU()
    model = sequential(
        layers.Dense(3, function), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3, "relu"), digit()
    )
    model.fit(X, Y, verbose=0)
    before = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    attributes = [dict(vars(layer)) for layer in model.layers]
    if fails:
        with pytest.raises(LabError):
            diagnose(model, X, ONE_HOT, training=True)
    else:
        first, second = (diagnose(model, X, Y, training=True).layers for _ in range(2))
        assert first.equals(second), "the same units are dropped"
    for variable, value in zip((*model.variables, *model.optimizer.variables), before, strict=True):
        assert np.array_equal(variable.numpy(), value), variable.path
    for layer, values in zip(model.layers, attributes, strict=True):
        assert list(vars(layer)) == list(values)
        assert all(vars(layer)[name] is values[name] for name in ("activation", "call") if name in values)


# Losses and references


@pytest.mark.parametrize(
    ("loss", "y", "activation"),
    [
        (SPARSE, Y, "softmax"),
        ("categorical_crossentropy", ONE_HOT.astype(int), "softmax"),
        (["mse"], ONE_HOT, "softmax"),
        ("binary_crossentropy", ONE_HOT, "sigmoid"),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True), ONE_HOT, None),
        (keras.losses.SparseCategoricalCrossentropy(reduction="sum"), Y, "softmax"),
        (lambda y, answer: tf.reduce_mean(tf.abs(answer - tf.one_hot(tf.cast(y, "int32"), 4)), axis=-1), Y, "softmax"),
    ],
)
def test_the_loss_is_the_one_that_keras_evaluates(loss, y, activation):
    model = sequential(layers.Dense(3, kernel_regularizer="l2"), digit(activation), loss=loss)
    found = diagnose(model, X, y)
    keras_loss = model.evaluate(X, y, batch_size=len(X), verbose=0) - float(sum(model.losses))
    if getattr(loss, "reduction", None) == "sum":
        keras_loss /= len(X)
    assert found.loss == pytest.approx(keras_loss, rel=1e-5)
    assert found.accuracy == (model.predict(X, verbose=0).argmax(axis=1) == Y).mean()
    assert column(found, "output_gradient")[-1] > 0


def test_references_against_closed_forms():
    found = diagnose(sequential(digit()), X, Y)  # of 12 labels, 5 are 0, 3 are 1, 3 are 2, and 1 is 3
    entropy = math.log(12) - (5 * math.log(5) + 2 * 3 * math.log(3)) / 12
    assert found.prior_entropy == pytest.approx(entropy)
    assert found.majority_accuracy == pytest.approx(5 / 12)
    ten = diagnose(sequential(layers.Dense(10, "softmax")), X, np.full(12, 7))
    assert (ten.uniform_loss, ten.majority_accuracy, str(ten.prior_entropy)) == (math.log(10), 1, "0.0")


def test_a_constant_answer_of_the_label_shares_has_the_prior_entropy():
    model = sequential(digit(kernel_initializer="zeros"))
    model.layers[0].bias.assign(np.log(np.bincount(Y) / len(Y)))
    found = diagnose(model, X, Y)
    assert found.loss == pytest.approx(found.prior_entropy)
    assert found.accuracy == found.majority_accuracy


def test_a_diagnosis_prints_the_model_beside_its_references():
    assert repr(Diagnosis(None, 2.31, 0.11, 2.301, 0.1135, math.log(10))) == (
        "loss      2.3100   (one answer for all images: 2.3010; all classes alike: 2.3026)\n"
        "accuracy  0.1100   (always the most common label: 0.1135)"
    )


def test_a_network_that_has_diverged():
    model = sequential(layers.Dense(3, "relu"), layers.Dense(3, "relu"), digit())
    model.layers[1].bias.assign([math.nan, 0, 0])
    found = diagnose(model, X, Y, since=snapshot(model))
    assert np.isnan(column(found, "spread")).tolist() == [False, True, True]
    assert np.isnan(column(found, "saturated")).tolist() == [False, True, True]
    assert np.isnan(column(found, "output_gradient")).all()
    assert math.isnan(found.loss)
    assert found.accuracy == 0, "NaN is no answer"


def test_infinite_outputs_have_no_spread():
    model = sequential(layers.Dense(3, bias_initializer=keras.initializers.Constant(math.inf)), digit())
    assert np.isnan(column(diagnose(model, X, Y), "spread")).all()


# Updates


def test_a_step_of_sgd_is_the_learning_rate_times_the_gradient():
    model = sequential(layers.Dense(3, "tanh"), layers.Dropout(0.0), digit())
    first, before, noted = diagnose(model, X, Y), snapshot(model), updates()
    norms = [np.linalg.norm(np.concatenate([array.ravel() for array in arrays])) for arrays in before.values()]
    model.fit(X, Y, batch_size=len(X), verbose=0, callbacks=[noted])
    expected = 0.1 * np.array(column(first, "weight_gradient"))[[0, 2]] / norms
    for since in (before, noted):
        found = diagnose(model, X, Y, since=since)
        assert found.layers["update_ratio"].dropna().tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert math.isnan(column(found, "update_ratio")[1])
    assert "update_ratio" not in first.layers
    assert list(update_ratios(before, snapshot(model)).values()) == column(found, "update_ratio")[::2]


def test_parameters_of_zero():
    zero, one = {"a": [np.zeros(2)]}, {"a": [np.ones(2)]}
    assert update_ratios(zero, one) == {"a": math.inf}
    assert update_ratios(zero, zero) == {"a": 0}


def test_a_snapshot_does_not_change_with_the_model():
    model = sequential(digit())
    before = snapshot(model)
    model.layers[0].bias.assign(np.ones(CLASSES))
    assert not before[model.layers[0].name][1].any()


def test_the_callback_notes_each_batch_since_the_one_before():
    model, noted = sequential(digit()), updates()
    start = snapshot(model)
    model.fit(X, Y, batch_size=6, shuffle=False, verbose=0, callbacks=[noted])
    (ratios,) = noted.ratios.values()
    again = sequential(digit(name=model.layers[0].name))
    again.set_weights(start[model.layers[0].name])
    again.train_on_batch(X[:6], Y[:6])
    middle = snapshot(again)
    again.train_on_batch(X[6:], Y[6:])
    expected = [*update_ratios(start, middle).values(), *update_ratios(middle, snapshot(again)).values()]
    assert ratios == pytest.approx(expected, rel=1e-4)
    assert noted.last() == {model.layers[0].name: ratios[-1]}
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[noted])
    assert [len(ratios) for ratios in noted.ratios.values()] == [2], "each fit begins anew"


def test_the_callback_with_several_steps_in_one_execution():
    model, noted = sequential(digit(), steps_per_execution=2), updates()
    start = snapshot(model)
    model.fit(X, Y, batch_size=6, verbose=0, callbacks=[noted])
    assert noted.last() == pytest.approx(update_ratios(start, snapshot(model)))


# Refusals


def two_inputs():
    a, b = keras.Input((5,)), keras.Input((5,))
    return functional([a, b], digit()(layers.Add()([a, b])))


def layer_used_twice():
    x, layer = keras.Input((5,)), layers.Dense(5)
    return functional(x, digit()(layer(layer(x))))


def subclassed():
    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    model(X)
    return model


def unbuilt():
    model = keras.Sequential([digit()])
    model.compile(loss=SPARSE)
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: keras.Sequential([keras.Input((5,)), digit()]), "call its `compile`"),
        (lambda: sequential(digit(), loss=[SPARSE, SPARSE]), "one loss"),
        (unbuilt, "begin with keras.Input"),
        (subclassed, "Sequential and Functional"),
        (two_inputs, "one input and one output"),
        (layer_used_twice, "each of its layers once"),
        (lambda: sequential(layers.Dense(1)), "an output for each class"),
        (lambda: sequential(digit(), shape=(3, 5)), "an output for each class"),
    ],
)
def test_refused_models(model, says):
    refused(says, model(), X, Y)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X[:, :3], Y, r"wants images of shape \(n, 5\); these have shape \(12, 3\)"),
        (X[0], Y, r"these have shape \(5,\)"),
        (X[:0], Y[:0], "got no images"),
        (X, Y[:-1], r"each of the 12 images.*shape \(11,\)"),
        (X, Y + 1, "from 0 to 3"),
        (X, Y - 1, "from 0 to 3"),
        (X, Y / 1, "type float64"),
        (X, np.full_like(ONE_HOT, 1 / CLASSES), "one-hot"),
        (X, np.ones_like(ONE_HOT), "one-hot"),
        (X, ONE_HOT, "sparse losses want"),
    ],
)
def test_refused_images_and_labels(x, y, says):
    refused(says, sequential(digit()), x, y)


def test_labels_that_numpy_would_stretch_to_the_answers():
    """As many images as classes: a squared error of (4,) and (4, 4) would be computed."""
    refused("one-hot labels", sequential(digit(), loss="mse"), X[:4], Y[:4])
    refused("one-hot labels", sequential(digit(), loss=lambda y, answer: tf.matmul(answer, y)), X, Y)


def test_refused_snapshots():
    model, other = sequential(digit()), sequential(digit())
    refused("different models", model, X, Y, since=snapshot(other))
    noted = updates()
    refused("no batch yet", model, X, Y, since=noted)
    other.fit(X, Y, verbose=0, callbacks=[noted])
    refused("another model's", model, X, Y, since=noted)
    refused("`since` is what", model, X, Y, since=model.get_weights())
    with pytest.raises(LabError, match=r"begin it with keras.Input"):
        snapshot(unbuilt())


def refused(says, *arguments, **options):
    with pytest.raises(LabError, match=says) as caught:
        diagnose(*arguments, **options)
    message = str(caught.value)
    assert message.endswith(".") and ". " not in message, "one sentence"


def test_its_plot_knows_its_columns():
    model = sequential(layers.Dense(3, "relu"), digit())
    axes = plots.diagnosis(diagnose(model, X, Y, since=snapshot(model)))
    assert [len(ax.lines[0].get_xdata()) for ax in axes] == [2] * 5
    plt.close("all")


def test_the_module_is_imported_fast():
    code = (
        "import sys; from labkit import diagnose; sys.exit(len({'keras', 'tensorflow', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
