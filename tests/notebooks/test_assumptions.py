"""What the labs teach about defaults of Keras. If a new version changes one, a lab has to change, too."""

import re

import numpy as np
import pytest

from labkit import session

session.start(1)
import keras  # noqa: E402 - quietly, after session.start
from keras import layers  # noqa: E402


def one_unit(rate=0.1, **options):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, kernel_initializer="ones", **options)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


X, Y = np.arange(8.0).reshape(-1, 1), np.zeros((8, 1))


def test_the_progress_bar_ends_with_the_mean_over_the_epoch(capsys):
    history = one_unit(0.01).fit(X, Y, batch_size=1, shuffle=False).history["loss"][0]
    capsys.readouterr()
    model = one_unit(0.01)
    losses = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))
    model.fit(X, Y, batch_size=1, shuffle=False, callbacks=[note])
    shown = float(re.findall(r"loss: ([\d.e+-]+)", capsys.readouterr().out)[-1])
    assert shown == pytest.approx(history, rel=1e-3) == pytest.approx(losses[-1], rel=1e-3)


def test_of_a_softmax_the_logits_are_found_also_for_binary_cross_entropy():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, activation="softmax", kernel_initializer="identity")])
    for loss, expected in (("categorical_crossentropy", 80), ("binary_crossentropy", 40)):
        model.compile(loss=loss)
        found = model.evaluate(np.array([[40.0, -40.0]]), np.array([[0.0, 1.0]]), verbose=0)
        assert found == pytest.approx(expected, rel=1e-3), loss


def test_early_stopping_counts_from_0_and_restores_the_best_weights_even_if_it_never_fires():
    x, y = np.ones((4, 1)), np.zeros((4, 1))
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
    model = one_unit(1.2, use_bias=False)  # each step leads further away
    assert len(model.fit(x, y, epochs=9, callbacks=[stop], verbose=0).epoch) == 2
    assert stop.stopped_epoch == 1
    never = keras.callbacks.EarlyStopping(monitor="loss", patience=9, restore_best_weights=True)
    model = one_unit(1.2, use_bias=False)
    model.fit(x, y, epochs=3, callbacks=[never], verbose=0)
    assert never.stopped_epoch == 0 and never.best_epoch == 0
    assert model.get_weights()[0].item() == pytest.approx(-1.4), "as after the first epoch"


def test_min_delta_is_an_absolute_value():
    # The losses are 1, 0.64, 0.41: each is 0.36 of the one before lower, which is less than 0.3 from the third on.
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=0.3)
    losses = one_unit(0.1, use_bias=False).fit(np.ones((4, 1)), np.zeros((4, 1)), epochs=9, callbacks=[stop], verbose=0)
    assert losses.history["loss"] == pytest.approx([1, 0.64, 0.4096], rel=1e-4)


def test_a_penalty_is_the_sum_of_squares_times_its_strength_and_part_of_the_loss():
    model = one_unit(kernel_regularizer=keras.regularizers.L2(0.1))
    model.set_weights([np.array([[3.0]]), np.array([0.0])])
    assert model.evaluate(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0) == pytest.approx(0.9)


def test_dropout_scales_up_what_it_keeps_and_does_nothing_in_inference():
    x = np.ones((1, 1000), "float32")
    assert set(np.unique(layers.Dropout(0.75)(x, training=True))) == {0.0, 4.0}
    assert (np.asarray(layers.Dropout(0.75)(x)) == 1).all()


def test_batch_normalization_averages_with_a_momentum_of_0_99_and_starts_at_mean_0_and_variance_1():
    layer = layers.BatchNormalization()
    layer(np.full((4, 1), 5.0, "float32"), training=True)
    assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)
    assert layer.moving_mean.numpy() == pytest.approx(0.05, rel=1e-5)
    assert layer.moving_variance.numpy() == pytest.approx(0.99, rel=1e-5)


def test_defaults_of_optimizers_and_initializers():
    rates = {kind: float(getattr(keras.optimizers, kind)().learning_rate) for kind in ("SGD", "Adam", "RMSprop")}
    assert rates == pytest.approx({"SGD": 0.01, "Adam": 0.001, "RMSprop": 0.001})
    adam = keras.optimizers.Adam()
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.9, 0.999, 1e-7)
    dense = layers.Dense(1)
    assert type(dense.kernel_initializer).__name__ == "GlorotUniform"
    assert type(dense.bias_initializer).__name__ == "Zeros"
    assert keras.initializers.RandomNormal().stddev == 0.05
    assert keras.initializers.RandomNormal(0.15).mean == 0.15, "the first argument is the mean"


def test_fit_shuffles_images_together_with_their_labels():
    seen = []

    class Note(layers.Layer):
        def call(self, x):
            return x

    x = np.arange(32.0).reshape(-1, 1)
    model = keras.Sequential([keras.Input((1,)), Note()])
    model.compile(loss=lambda y, answer: keras.ops.mean(keras.ops.square(y - answer)), optimizer="sgd")
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    model.fit(x, x, batch_size=4, verbose=0, callbacks=[note])
    assert seen == [0.0] * 8
