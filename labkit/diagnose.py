"""What happens inside a network: how much signal and gradient each layer passes on, and how fast it learns."""

import contextlib
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import LabError

if TYPE_CHECKING:
    import keras
    import pandas as pd

FLAT = 0.05  # of its steepest slope: where an activation is flatter, it is saturated. For tanh: beyond 0.975


@dataclass(frozen=True, eq=False)  # tables cannot be compared by ==
class Diagnosis:
    """What `diagnose` returns. Printed, it compares the model with predictions that do not look at the image.

    Attributes
    ----------
    layers : pandas.DataFrame
        A row per layer from input to output. NaN stands for what a layer does not have, or what cannot be computed, as
        in a network that has diverged. Columns:
        - layer, kind: name and class of the layer.
        - depth: number of layers with a kernel (Dense, convolution) up to this one.
        - parameters: number of trainable parameters.
        - spread: standard deviation of each output over the images, mean over the outputs.
        - saturated: share of the outputs where the layer's activation, other than softmax, is flat (see FLAT).
        - dead: share of the units, or of a convolution's filters, that are saturated for every image.
        - weight_gradient: norm of the gradient of the loss w.r.t. all trainable parameters of the layer.
        - output_gradient: norm of the gradient of an image's loss w.r.t. the layer's output (for the layer that
          predicts: w.r.t. the logits, which go into its softmax or sigmoid), mean over the images.
        - update_ratio: norm of the change of the parameters over their norm before; only if `since` was given.
    loss, accuracy : float
        Of the model; the loss is the mean over the images, without penalties on weights.
    prior_entropy : float
        Entropy of the label shares in nats, the lowest loss of a prediction that is the same for all images.
    majority_accuracy : float
        Accuracy of always predicting the most common label.
    uniform_loss : float
        Loss of predicting the same probability for all classes, the logarithm of their number.
    """

    layers: "pd.DataFrame"
    loss: float
    accuracy: float
    prior_entropy: float
    majority_accuracy: float
    uniform_loss: float

    def __repr__(self):
        return (
            f"loss      {self.loss:.4f}   (one answer for all images: {self.prior_entropy:.4f}; "
            f"all classes alike: {self.uniform_loss:.4f})\n"
            f"accuracy  {self.accuracy:.4f}   (always the most common label: {self.majority_accuracy:.4f})"
        )


def diagnose(
    model: "keras.Model",
    x: ArrayLike,
    y: ArrayLike,
    since: "dict[str, list[np.ndarray]] | keras.callbacks.Callback | None" = None,
    *,
    training: bool = False,
) -> Diagnosis:
    """Examine each layer of a model on some images; the model is left as it is.

    Parameters
    ----------
    model : keras.Model
        A compiled Sequential or Functional classifier with one input, one output and one loss, which uses each of its
        layers once. A model inside the model counts as one layer.
    x : array, shape (n, ...)
        Images as the model wants them; some hundreds are enough, and all go through it at once.
    y : array, shape (n,) or (n, classes)
        Labels, or one-hot labels, as the model's loss wants them.
    since : dict or callback, optional
        What the weights were before: a `snapshot`, or an `updates` callback, whose last batch counts.
    training : bool
        True to normalize by these images and drop units, as in training; False as in a test.

    Raises
    ------
    LabError
        If the model, the images, the labels or `since` are not of this kind.

    Notes
    -----
    Outputs and gradients layer by layer, as in Glorot and Bengio (2010).
    """
    import pandas as pd
    import tensorflow as tf

    layers, loss_function = _examined(model)
    x, y, labels = _checked(model, x, y)
    classes = model.output_shape[-1]
    state = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
    try:
        with _recorded(layers) as records, tf.GradientTape() as tape:
            tape.watch(x)
            answer = model(x, training=training)
            loss = _loss(loss_function, y, answer)
    finally:
        for variable, value in state:  # the running averages of batch normalization, the seeds of dropout
            variable.assign(value)
    if any(len(record.outputs) != 1 or not tf.is_tensor(record.outputs[0]) for record in records):
        raise LabError("diagnose needs a model that uses each of its layers once, and layers with one output.")
    outputs = [record.outputs[0] for record in records]
    # Keras computes cross-entropies from the logits (see its losses), past the output of softmax or sigmoid.
    points = [
        record.inputs[0] if output is answer and len(record.inputs) == 1 else output
        for record, output in zip(records, outputs, strict=True)
    ]
    weight_gradients, output_gradients = tape.gradient(
        loss,
        [[layer.trainable_variables for layer in layers], points],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )

    rows, depth = [], 0
    for layer, record, output, by_weights, by_output in zip(
        layers, records, outputs, weight_gradients, output_gradients, strict=True
    ):
        depth += any("kernel" in variable.name for variable in layer.weights)
        saturated, dead = _flatness(record)
        by_image = by_output.numpy().reshape(len(x), -1).astype(np.float64)
        rows.append(
            {
                "layer": layer.name,
                "kind": type(layer).__name__,
                "depth": depth,
                "parameters": sum(math.prod(variable.shape) for variable in layer.trainable_variables),
                "spread": _spread(output.numpy()),
                "saturated": saturated,
                "dead": dead,
                "weight_gradient": _norm(by_weights) if by_weights else math.nan,
                # The loss is a mean over images, so an image's own gradient is n times its share.
                "output_gradient": len(x) * float(np.linalg.norm(by_image, axis=1).mean()),
            }
        )
    frame = pd.DataFrame(rows)
    if since is not None:
        ratios = _ratios(model, since)
        frame["update_ratio"] = [ratios.get(layer.name, math.nan) for layer in layers]
    answer = answer.numpy()
    shares = np.bincount(labels, minlength=classes) / len(labels)
    given = shares[shares > 0]
    return Diagnosis(
        layers=frame,
        loss=float(loss),
        accuracy=float(((answer.argmax(axis=1) == labels) & ~np.isnan(answer).any(axis=1)).mean()),
        prior_entropy=float((given * np.log(1 / given)).sum()),
        majority_accuracy=float(shares.max()),
        uniform_loss=math.log(classes),
    )


def snapshot(model: "keras.Model") -> dict[str, list[np.ndarray]]:
    """Copy the trainable parameters of each layer that has any: layer name -> arrays.

    Raises
    ------
    LabError
        If the model has no parameters yet.
    """
    if not getattr(model, "built", False):
        raise LabError("The model has no weights yet: begin it with keras.Input, or train it first.")
    return {
        layer.name: [variable.numpy().copy() for variable in layer.trainable_variables]
        for layer in model.layers
        if layer.trainable_variables
    }


def update_ratios(before: dict[str, list[np.ndarray]], after: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Measure how far each layer's parameters moved: norm of the change over the norm before, by layer name.

    Parameters
    ----------
    before, after : dict
        Two snapshots of one model. Parameters that were all 0 and have moved give infinity.

    Raises
    ------
    LabError
        If the snapshots are of different models.
    """
    kinds = [{name: [array.shape for array in arrays] for name, arrays in shot.items()} for shot in (before, after)]
    if kinds[0] != kinds[1]:
        raise LabError(
            "The two snapshots are of different models: take both of the same one, with the same layers trainable."
        )
    ratios = {}
    for name, arrays in before.items():
        change = _norm([new - old for old, new in zip(arrays, after[name], strict=True)])
        norm = _norm(arrays)
        ratios[name] = change / norm if norm else (math.inf if change else 0.0)
    return ratios


def updates() -> "keras.callbacks.Callback":
    """Make a callback that notes after each batch how far every layer's parameters have moved, relative to their norm.

    Returns
    -------
    keras.callbacks.Callback
        Its `ratios` is a dict of layer name -> list with one number a batch, or one for as many batches as
        steps_per_execution says, of their sum. Each `fit` begins anew, and raises LabError if the model has no
        parameters before it.
    """
    import keras

    class Updates(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.ratios, self.before = {}, snapshot(self.model)

        def on_train_batch_end(self, batch, logs=None):
            after = snapshot(self.model)
            for name, ratio in update_ratios(self.before, after).items():
                self.ratios.setdefault(name, []).append(ratio)
            self.before = after

        def last(self):
            if not getattr(self, "ratios", None):
                raise LabError("The callback has seen no batch yet: give it to `fit` first.")
            return {name: values[-1] for name, values in self.ratios.items()}

    return Updates()


def _ratios(model, since):
    """The update ratios of a model since a snapshot, or in the last batch that a callback saw."""
    if hasattr(since, "last"):
        ratios = since.last()
        if list(ratios) != list(snapshot(model)):
            raise LabError("The callback was given to another model's `fit`: use one callback for each model.")
        return ratios
    if not isinstance(since, dict):
        raise LabError("`since` is what `snapshot` or `updates` returned before the training.")
    return update_ratios(since, snapshot(model))


def _examined(model):
    """The model's layers and its loss function, after a check that it is of a kind that can be examined."""
    import keras

    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise LabError(
            "diagnose looks at Sequential and Functional models whose input shape is known: begin with keras.Input, "
            "or train the model first."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise LabError("diagnose looks at models with one input and one output.")
    shape = model.output_shape
    if len(shape) != 2 or shape[1] < 2:
        raise LabError(f"diagnose looks at models with an output for each class; this one's output is {shape[1:]}.")
    loss = getattr(model, "loss", None)
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        (loss,) = loss
    if not loss or isinstance(loss, (list, tuple, dict)):
        raise LabError("diagnose needs a model with one loss: call its `compile` with it first.")
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)], keras.losses.get(loss)


def _checked(model, x, y):
    """Images as a tensor, labels as an array, and labels as whole numbers (n,), after a check that they fit."""
    import tensorflow as tf

    x, y = tf.convert_to_tensor(np.asarray(x, dtype="float32")), np.asarray(y)
    wanted = model.input_shape[1:]
    if len(x.shape) != len(wanted) + 1 or any(b not in (None, a) for a, b in zip(x.shape[1:], wanted, strict=True)):
        raise LabError(
            f"The model wants images of shape (n, {', '.join(map(str, wanted))}); these have shape {tuple(x.shape)}."
        )
    n, classes = len(x), model.output_shape[-1]
    if not n:
        raise LabError("diagnose got no images: give it some hundreds.")
    one_hot = y.shape == (n, classes) and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    labels = y.argmax(axis=1) if one_hot else y
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise LabError(
            f"diagnose wants a whole number from 0 to {classes - 1} as the label of each of the {n} images, or one-hot "
            f"labels of shape ({n}, {classes}); these labels are of type {y.dtype} and shape {y.shape}."
        )
    return x, y, labels


@contextlib.contextmanager
def _recorded(layers):
    """Record every call of these layers.

    Gives for each layer its activation (None if it has none, or passes its input on), what went into it, and what came
    out of the layer, an entry for each call. Attributes of each layer stand for its methods meanwhile. They bypass
    Keras, which would track them. The model's graph would not do: a Sequential model that grew by `add`, or lent its
    layers to another, has several.
    """
    import keras

    whole = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Softmax)
    records, originals = [], []

    def noted(function, inputs, outputs):
        def noting(*args, **kwargs):
            result = function(*args, **kwargs)
            inputs.append((*args, *kwargs.values())[0])
            outputs.append(result)
            return result

        return noting

    try:
        for layer in layers:
            activation = layer if isinstance(layer, whole) else vars(layer).get("activation")
            activation = None if activation is keras.activations.linear else activation
            record = SimpleNamespace(activation=activation, inputs=[], outputs=[])
            records.append(record)
            originals.append({name: vars(layer)[name] for name in ("call", "activation") if name in vars(layer)})
            vars(layer)["call"] = noted(layer.call, record.inputs if activation is layer else [], record.outputs)
            if activation not in (None, layer):
                vars(layer)["activation"] = noted(activation, record.inputs, [])
        yield records
    finally:
        for layer, original in zip(layers, originals, strict=False):
            vars(layer).pop("call", None)
            vars(layer).update(original)


def _flatness(record):
    """Share of a layer's outputs, and of its units, where its activation is flat.

    NaN where it has no activation, or one that does not work on each number by itself (softmax), or its input is NaN.
    """
    import tensorflow as tf

    activation = record.activation
    if activation is None or len(record.inputs) != 1 or getattr(activation, "weights", None):
        return math.nan, math.nan
    (z,) = record.inputs
    probe = activation(tf.constant([[0.0, 1.0], [0.0, 3.0]])).numpy()
    if probe[0, 0] != probe[1, 0] or np.isnan(z.numpy()).any():
        return math.nan, math.nan

    def slope(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            a = activation(z)
        return np.abs(tape.gradient(a, z).numpy())

    flat = slope(z) < FLAT * slope(tf.linspace(-8.0, 8.0, 1601)).max()
    return float(flat.mean()), float(flat.reshape(-1, flat.shape[-1]).all(axis=0).mean())


def _loss(function, y, answer):
    """The loss of the model's predictions, mean over the images."""
    import keras
    import tensorflow as tf

    misfit = LabError(
        f"The model's loss cannot be applied to labels of shape {y.shape}: sparse losses want labels of shape (n,), "
        "the others one-hot labels."
    )
    kind = type(function) if isinstance(function, keras.losses.Loss) else function
    # A squared error of (n,) labels and as many classes would be computed without a complaint.
    if kind.__module__.startswith("keras.") and ("sparse" in kind.__name__.lower()) != (y.ndim == 1):
        raise misfit
    try:
        loss = tf.reduce_mean(function(tf.cast(y, answer.dtype), answer))  # in `fit`, Keras casts labels, too
    except (ValueError, TypeError, tf.errors.InvalidArgumentError):
        raise misfit from None
    return loss / len(y) if getattr(function, "reduction", None) == "sum" else loss


def _spread(outputs):
    """Standard deviation over the images, mean over the outputs."""
    with np.errstate(invalid="ignore"):  # infinite outputs have none
        # In float64, sums of float32 are exact, so that a constant output has a spread of exactly 0.
        return float(outputs.std(axis=0, dtype=np.float64).mean())


def _norm(arrays):
    """The Euclidean norm of all numbers in these arrays together."""
    return math.sqrt(sum(float(np.square(np.asarray(array, dtype=np.float64)).sum()) for array in arrays))
