"""What happens inside a network: how much signal and how much gradient each layer passes on, and how fast it learns.

`diagnose` examines a model at one moment, `snapshot` and `updates` remember what its weights were before. What they
measure follows Glorot and Bengio (2010): outputs and gradients layer by layer; a constant answer is the yardstick.
"""

import contextlib
import math
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabError

FLAT = 0.05  # of its steepest slope: where an activation is flatter, it is saturated. For tanh: beyond 0.975


@dataclass(frozen=True, eq=False)  # tables cannot be compared by ==
class Diagnosis:
    """What `diagnose` returns. Printed, it compares the model with answers that do not look at the image.

    layers: pandas DataFrame, a row per layer from input to output, with the columns
        layer, kind: name and class of the layer.
        depth: how many layers with a kernel (Dense, convolution) there are up to this one.
        parameters: trainable numbers in it.
        spread: standard deviation of each output over the images, mean over the outputs. At 0, nothing gets through.
        saturated: share of the outputs where the activation is flat (see FLAT). NaN without an activation of its own,
            and for softmax.
        dead: share of the units that are saturated for every image; of a convolution, the share of its filters.
        weight_gradient: norm of the loss's gradient by all trainable parameters of the layer. NaN if it has none.
        output_gradient: norm of the gradient of an image's loss by the layer's output, mean over the images. Of the
            layer that gives the answer, it is by what goes into its softmax or sigmoid, the logits.
        update_ratio: norm of the parameters' change over their norm before; only if `since` was given. NaN without any.
        In a network that has diverged, what cannot be computed is NaN.
    loss, accuracy: of the model on these images. The loss is that of the data, mean over the images, without penalties
        on weights. An answer with NaN in it is a wrong answer.
    prior_entropy: lowest loss of an answer that is the same for all images, in nats: the entropy of the label shares.
    majority_accuracy: accuracy of always answering the most common label.
    uniform_loss: loss of giving all classes the same probability, the logarithm of their number.
    """

    layers: object
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


def diagnose(model, x, y, since=None, *, training=False):
    """Examine each layer of a model on these images. Returns a Diagnosis.

    model: a compiled Sequential or Functional classifier with one input, one output and one loss, which uses each of
        its layers once. It is left as it is. A model inside the model counts as one layer.
    x: (n, ...) images as the model wants them; some hundreds are enough, and all go through it at once.
    y: (n,) labels or (n, classes) one-hot labels, as the model's loss wants them.
    since: what the weights were before: a `snapshot`, or an `updates` callback, whose last batch counts.
    training: True to normalize by these images and drop units, as in training; a test leaves both out.
    Raises LabError if the model or the labels are not of this kind.
    """
    import pandas as pd
    import tensorflow as tf

    layers, loss_function = _layers(model), _loss_function(model)
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
                "output_gradient": len(x) * float(_norms(by_output.numpy()).mean()),
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


def snapshot(model):
    """The trainable parameters of each layer that has any, as they are now: dict of layer name -> list of arrays.

    Raises LabError if the model has no parameters yet.
    """
    if not getattr(model, "built", False):
        raise LabError("The model has no weights yet: begin it with keras.Input, or train it first.")
    return {
        layer.name: [variable.numpy().copy() for variable in layer.trainable_variables]
        for layer in model.layers
        if layer.trainable_variables
    }


def update_ratios(before, after):
    """How far each layer's parameters moved: norm of the change over the norm before, as dict of layer name -> float.

    before, after: two snapshots of one model. Parameters that were all 0 and have moved give infinity.
    Raises LabError if the snapshots are of different models.
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


def updates():
    """A Keras callback that notes after each batch how far every layer's parameters have moved, relative to their norm.

    Its `ratios` is a dict of layer name -> list with one number a batch. With steps_per_execution above 1, Keras calls
    it once for that many batches, and the numbers are those of their sum. Each `fit` begins anew;
    it raises LabError if the model has no parameters before it.
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


def _layers(model):
    """The model's layers, after a check that it is of a kind that can be examined."""
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
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


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


class _Record:
    """What went into a layer's activation and what came out of the layer, an entry for each call of it.

    activation: the function, or None if the layer has none or only passes its input on.
    """

    def __init__(self, layer):
        import keras

        self.inputs, self.outputs = [], []
        whole = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Softmax)
        self.is_layer = isinstance(layer, whole)
        self.activation = layer if self.is_layer else vars(layer).get("activation")
        if self.activation is keras.activations.linear:
            self.activation = None


@contextlib.contextmanager
def _recorded(layers):
    """Record every call of these layers. Gives a list of _Record.

    Attributes of each layer stand for its methods meanwhile. They bypass Keras, which would track them. The model's
    graph would not do: a Sequential model that grew by `add`, or lent its layers to another, has several.
    """
    records = [_Record(layer) for layer in layers]
    originals = [dict(vars(layer)) for layer in layers]

    def noted(function, inputs, outputs):
        def noting(*args, **kwargs):
            result = function(*args, **kwargs)
            inputs.append(next(iter((*args, *kwargs.values()))))
            outputs.append(result)
            return result

        return noting

    try:
        for layer, record in zip(layers, records, strict=True):
            vars(layer)["call"] = noted(layer.call, record.inputs if record.is_layer else [], record.outputs)
            if record.activation is not None and not record.is_layer:
                vars(layer)["activation"] = noted(record.activation, record.inputs, [])
        yield records
    finally:
        for layer, original in zip(layers, originals, strict=True):
            for name in ("call", "activation"):
                if name in original:
                    vars(layer)[name] = original[name]
                else:
                    vars(layer).pop(name, None)


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


def _loss_function(model):
    """The one loss of a compiled model: a Keras loss, or a function of its author."""
    import keras

    loss = getattr(model, "loss", None)
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        (loss,) = loss
    if not loss or isinstance(loss, (list, tuple, dict)):
        raise LabError("diagnose needs a model with one loss: call its `compile` with it first.")
    return keras.losses.get(loss)


def _loss(function, y, answer):
    """The loss of the model's answers, mean over the images."""
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


def _norms(array):
    """The Euclidean norm of each row of an array (n, ...): (n,)."""
    return np.sqrt(np.square(array.reshape(len(array), -1), dtype=np.float64).sum(axis=1))
