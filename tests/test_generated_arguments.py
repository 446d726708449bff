"""Odd arguments: every public callable, with one of its arguments replaced, succeeds or raises an error of nnx.

The table `CALLS` has good arguments for each public callable, the pool `odd` has values that people hand in by mistake.
Nothing else may come out: no other exception and no warning of NumPy (warnings are errors in the suite).
"""

import decimal
import fractions
import inspect
import random

import numpy as np
import pytest

import nnx
from nnx import convert, schedules
from nnx.data import flower, moons, spirals
from nnx.metrics import METRICS
from nnx.model.layers import LAYERS
from nnx.model.outputs import output
from nnx.optimizers import OPTIMIZERS, optimizer

SIZES = [2, 3, 1]
X = np.linspace(-1, 1, 24).reshape(2, 12)
Y = (np.arange(12) % 2).astype(float)


def optional(name):
    """Return a module, where it is installed."""
    try:
        return __import__(name, fromlist=["x"])
    except ImportError:
        return None


def network(**more):
    return nnx.mlp(SIZES, **more)


def trainer():
    return nnx.Trainer(network(), backend="numpy")


def members(**given):
    return nnx.Trainer(network(), backend="numpy", **{"members": 2, **given})


def theta(dtype="float64"):
    return network().init(0, dtype)


def params():
    return network().unflatten(theta())


def setter(name):
    def call(value):
        setattr(trainer(), name, value)

    return call


def of(make, name):
    """A method of a new object."""
    return lambda *args, **kwargs: getattr(make(), name)(*args, **kwargs)


def fit(**arguments):
    arguments = {"X": X, "Y": Y, "epochs": 1} | arguments
    return trainer().fit(**arguments)


def keras_weights():
    return [np.ones((2, 3)), np.zeros(3), np.ones((3, 1)), np.zeros(1)]


def sklearn_pair():
    return [np.ones((4, 8)), np.ones((8, 1))], [np.zeros(8), np.zeros(1)]


def square():
    return {
        "name": "square",
        "g": lambda Z: Z * Z,
        "dg": lambda Z: 2 * Z,
        "keep": "Z",
        "init": "glorot",
        "check": True,
    }


def quartic():
    return {"name": "quartic", "loss": lambda A, Y: (A - Y) ** 4, "derivative": lambda A, Y: 4 * (A - Y) ** 3} | {
        "of": "A", "check": True
    }  # fmt: skip


def halving(t):
    return 0.5**t


def dataclass_arguments(kind, **given):
    """The defaults of a class, with those that have none."""
    parameters = inspect.signature(kind).parameters
    return {name: given.get(name, p.default) for name, p in parameters.items()}


SCHEDULE = {"learning_rate": 0.1, "every": 2, "steps": 50}
CALLBACK = {"monitor": "loss", "folder": "folder", "path": "log"}

CALLS = {
    "mlp": (nnx.mlp, {"sizes": SIZES, "hidden": "relu", "output": "sigmoid", "init": "he", "loss": "focal"}),
    "Network": (
        nnx.Network,
        {
            "n_features": 2,
            "layers": [nnx.Dense(3, "relu"), nnx.Dense(1)],
            "output": "identity",
            "loss": "huber",
        },
    ),
    "Network.init": (of(network, "init"), {"seed": 0, "dtype": "float32", "scheme": "he"}),
    "Network.flatten": (of(network, "flatten"), {"params": params()}),
    "Network.unflatten": (of(network, "unflatten"), {"theta": theta()}),
    "Network.forward": (of(network, "forward"), {"theta": theta(), "X": X}),
    "Network.input_gradient": (
        of(network, "input_gradient"),
        {"theta": theta(), "X": X, "output": np.zeros(12, "int32"), "of": "Z"},
    ),
    "Network.forward_and_loss": (
        of(network, "forward_and_loss"),
        {"theta": theta(), "X": X, "Y": Y, "weights": np.ones(12)},
    ),
    "Network.loss_and_gradient": (
        of(network, "loss_and_gradient"),
        {"theta": theta(), "X": X, "Y": Y, "weights": np.ones(12), "key": np.zeros(2, "int32")},
    ),
    "Network.from_description": (nnx.Network.from_description, {"description": network().describe()}),
    "Dense": (nnx.Dense, {"n": 3, "activation": "relu", "init": "he"}),
    "Activate": (nnx.Activate, {"activation": "relu"}),
    "PReLU": (nnx.PReLU, {"a": 0.25}),
    "Dropout": (nnx.Dropout, {"rate": 0.5}),
    "GaussianNoise": (nnx.GaussianNoise, {"std": 0.1}),
    "FeatureScale": (nnx.FeatureScale, {"rate": 6.0}),
    "NTKDense": (nnx.NTKDense, {"n": 3, "activation": "selu", "init": "zeros", "bias_rate": 0.1}),
    "LayerNorm": (nnx.LayerNorm, {"epsilon": 1e-5}),
    "BatchNorm": (nnx.BatchNorm, {"momentum": 0.1, "epsilon": 1e-5}),
    "Residual": (nnx.Residual, {"layers": [nnx.Dense(3), nnx.Dense(2)]}),
    "PiecewiseLinear": (nnx.PiecewiseLinear, dataclass_arguments(nnx.PiecewiseLinear, columns=[0, 1])),
    "Periodic": (nnx.Periodic, dataclass_arguments(nnx.Periodic, columns=[0, 1])),
    "PiecewiseLinear.from_data": (
        nnx.PiecewiseLinear.from_data,
        {"X": np.linspace(0, 1, 20).reshape(2, 10), "bins": 3, "rows": False},
    ),
    "register_layer": (nnx.register_layer, {"kind": type("OfATest", (nnx.Layer,), {})}),
    "Activation": (nnx.Activation, square()),
    "register_activation": (nnx.register_activation, {"activation": nnx.Activation(**square())}),
    "Loss": (nnx.Loss, quartic()),
    "register_loss": (nnx.register_loss, {"loss": nnx.Loss(**quartic())}),
    "schedules.Custom": (schedules.Custom, {"learning_rate": 0.1, "factor": halving, "name": None}),
    "register_schedule": (nnx.register_schedule, {"factor": halving, "name": None}),
    "check_gradient": (nnx.check_gradient, {"network": network(), "seed": 0}),
    "leaky_relu": (nnx.leaky_relu, {"alpha": 0.1}),
    "elu": (nnx.elu, {"alpha": 0.5}),
    "output": (output, {"name": "identity", "loss": "huber(0.5)"}),
    "optimizer": (optimizer, {"name": "adam"}),
    **{name: (kind, dataclass_arguments(kind)) for name, kind in OPTIMIZERS.items()},
    **{
        f"schedules.{name}": (kind, dataclass_arguments(kind, **SCHEDULE))
        for name, kind in schedules.SCHEDULES.items()
    },
    "schedules.schedule": (schedules.schedule, {"name": "cosine", "learning_rate": 0.1, "steps": 9}),
    "schedules.parameters": (schedules.parameters, {"name": "cosine"}),
    "Regularization": (nnx.Regularization, dataclass_arguments(nnx.Regularization)),
    **{f"metrics.{name}": (kind, dataclass_arguments(kind)) for name, kind in METRICS.items()},
    "Trainer": (
        nnx.Trainer,
        {"network": network(), "optimizer": "adam", "backend": "numpy", "device": "cpu", "dtype": "float64"}
        | {"seed": 0, "regularization": nnx.Regularization(), "theta": theta(), "precision": "float32"}
        | {"members": None, "communicator": "alone"},
    ),
    "Trainer of members": (
        members,
        {"optimizer": nnx.Adam([0.1, 0.2]), "seed": [3, 4], "regularization": nnx.Regularization(l2=[0.1, 0])}
        | {"theta": np.stack([theta()] * 2), "members": 2},
    ),
    "Trainer.fit of members": (
        lambda **given: members().fit(**given),
        {"X": X, "Y": Y, "epochs": 1, "batch_size": 4, "validation": (X, Y), "shuffle": True, "callbacks": ()}
        | {"sample_weight": np.ones((2, 12)), "metrics": ["f1"], "progress": False},
    ),
    "Trainer.member": (of(members, "member"), {"k": 1}),
    "Ensemble.select": (
        lambda **given: members().ensemble.select(**given),
        {"X": X, "Y": Y, "metric": "accuracy", "rounds": 3, "sample_weight": np.ones(12)},
    ),
    "Ensemble.evaluate": (
        lambda **given: members().ensemble.evaluate(**given),
        {"X": X, "Y": Y, "metrics": ["f1"]},
    ),
    "Trainer.fit": (
        fit,
        {"X": X, "Y": Y, "epochs": 1, "batch_size": 4, "validation": (X, Y), "shuffle": True, "callbacks": ()}
        | {"sample_weight": np.ones(12), "class_weight": [1, 2], "metrics": ["f1"], "micro_batch": 2}
        | {"resume": "no such folder", "progress": False},
    ),
    "Trainer.fit of batches": (fit, {"X": [(X, Y)], "Y": None, "steps": 1}),
    "Trainer.input_gradient": (
        of(trainer, "input_gradient"),
        {"X": X, "batch_size": 5, "output": 0, "of": "Z"},
    ),
    "Trainer.predict": (of(trainer, "predict"), {"X": X, "batch_size": 5}),
    "Trainer.classify": (of(trainer, "classify"), {"X": X, "batch_size": 5}),
    "Trainer.evaluate": (
        of(trainer, "evaluate"),
        {"X": X, "Y": Y, "batch_size": 5, "sample_weight": np.ones(12), "metrics": ["f1"]},
    ),
    "Trainer.scorer": (of(trainer, "scorer"), {"X": X, "Y": Y, "metrics": ["f1"]}),
    "Trainer.stop": (of(trainer, "stop"), {"reason": "enough"}),
    "Trainer.save": (of(trainer, "save"), {"path": "saved.safetensors"}),
    "Trainer.load": (
        nnx.Trainer.load,
        {"path": "model.safetensors", "backend": "numpy", "device": "cpu"} | {"precision": "float32"},
    ),
    "Trainer.theta": (setter("theta"), {"value": theta()}),
    "Trainer.parameters": (setter("parameters"), {"value": params()}),
    "Trainer.learning_rate": (setter("learning_rate"), {"value": 0.1}),
    "communicator": (nnx.communicator, {"name": "alone"}),
    "backend": (nnx.backend, {"name": "numpy", "device": "cpu", "precision": "float32"}),
    "find_learning_rate": (
        lambda trainer=None, **rest: nnx.find_learning_rate(
            nnx_trainer() if trainer is None else trainer, **rest
        ),
        {"trainer": None, "X": X, "Y": Y, "batch_size": 4, "low": 1e-4, "high": 1.0, "steps": 10}
        | {"smoothing": 0.5, "sample_weight": np.ones(12), "class_weight": [1, 2]},
    ),
    **{
        kind.__name__: (kind, dataclass_arguments(kind, **CALLBACK))
        for kind in (nnx.Checkpoints, nnx.CSVLog, nnx.EarlyStopping, nnx.JSONLines, nnx.MovingAverage)
    },
    "ReduceOnPlateau": (nnx.ReduceOnPlateau, dataclass_arguments(nnx.ReduceOnPlateau)),
    "Snapshots": (nnx.Snapshots, {"most": 4}),
    "flower": (flower, {"m": 10, "seed": 0, "noise": 0.1}),
    "moons": (moons, {"m": 10, "seed": 0, "noise": 0.1}),
    "spirals": (spirals, {"m": 10, "seed": 0, "noise": 0.1, "classes": 2}),
    "convert.to_keras": (convert.to_keras, {"network": network(), "params": theta()}),
    "convert.from_keras": (convert.from_keras, {"weights": keras_weights(), "network": network()}),
    "convert.to_sklearn": (convert.to_sklearn, {"network": network(), "params": params()}),
    "convert.from_sklearn": (
        convert.from_sklearn,
        {"fitted": sklearn_pair(), "hidden": "relu", "output": "identity"},
    ),
}


def nnx_trainer():
    """A trainer whose cost falls in ten steps."""
    return nnx.Trainer(network(), nnx.GradientDescent(), backend="numpy")


if optional("torch"):
    CALLS["convert.to_torch"] = (
        convert.to_torch,
        {"network": network(), "params": theta(), "dtype": "float64", "link": True},
    )
    CALLS["convert.from_torch"] = (
        lambda sequential=None, **rest: convert.from_torch(
            convert.to_torch(network(), theta()) if sequential is None else sequential, **rest
        ),
        {"sequential": None, "output": "sigmoid", "loss": "focal"},
    )

if optional("onnx"):

    def from_onnx(model=None, **rest):
        if model is None:
            convert.to_onnx(network(), "model.onnx", theta())
            model = "model.onnx"
        return convert.from_onnx(model, **rest)

    CALLS["convert.to_onnx"] = (
        convert.to_onnx,
        {"model": network(), "path": "log", "params": theta(), "dtype": "float64", "members": False},
    )
    CALLS["convert.from_onnx"] = (from_onnx, {"model": None, "output": "sigmoid", "loss": "focal"})

if optional("matplotlib") and optional("sklearn"):
    from nnx import plots

    CURVE = {"loss": [0.7, 0.4], "validation_loss": [0.8, 0.5]}
    CALLS |= {
        "plots.learning_curves": (plots.learning_curves, {"histories": CURVE, "title": "a run"}),
        "plots.comparison": (plots.comparison, {"histories": {"one": CURVE}, "title": "runs"}),
        "plots.confusion_matrix": (
            plots.confusion_matrix,
            {"Y": np.arange(12) % 2, "predicted": np.arange(12) % 2, "labels": ["a", "b"], "title": "a run"},
        ),
        "plots.roc": (
            plots.roc,
            {"Y": np.arange(12) % 2, "A": X[:1], "labels": ["a", "b"], "title": "a run"},
        ),
        "plots.predicted_against_true": (
            plots.predicted_against_true,
            {"y": X[0], "predicted": X[1], "name": "weight", "title": "a run"},
        ),
        "plots.first_layer": (
            plots.first_layer,
            {"W": np.ones((3, 4)), "shape": (2, 2), "most": 2, "title": ""},
        ),
        "plots.save": (
            lambda figure=None, **rest: plots.save(
                plots.learning_curves(CURVE) if figure is None else figure, **rest
            ),
            {"figure": None, "path": "picture.svg"},
        ),
        "plots.decision_boundary": (
            lambda **given: plots.decision_boundary(trainer().predict, **given),
            {
                "X": X,
                "Y": np.arange(12) % 2,
                "labels": ["a", "b"],
                "names": ["u", "v"],
                "target": "",
                "title": "",
            },
        ),
    }

# Not called here: what has no arguments that a person gives, is a protocol or a base class, or needs another package.
ELSEWHERE = {
    "Backend", "Callback", "Context", "Layer", "Memory", "Metric", "Progress", "RateSearch", "Rows", "Summary",
    "BackendError", "CallbackError", "DivergenceError", "Error", "InputError", "LeftOutWarning", "ModelFileError",
    "ProgressBar", "TensorBoard", "MLflow", "WandB", "OptunaPruning", "array_namespace",
    "Communicator", "CommunicatorError", "Trainer.communicator",
    "Tabular",
    "Network.check_features", "Network.check_options", "Network.describe", "Network.summary", "Network.training_pass",
}  # fmt: skip

# Attributes of a trainer that nothing checks when they are set.
PLAIN = {
    "network", "optimizer", "regularization", "backend", "reason", "dtype", "seed", "rng", "records", "metadata",
    "features", "targets", "stopped", "kept", "resumes", "measures", "held_out", "steps",
}  # fmt: skip


def test_every_public_callable_is_in_the_table():
    names = {name for name in nnx.__all__ if callable(getattr(nnx, name))}
    names |= {f"convert.{name}" for name in convert.__all__}
    for kind in (nnx.Trainer, nnx.Network):
        public = {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}
        names |= {
            f"{kind.__name__}.{name}"
            for name, x in public.items()
            if callable(x) or isinstance(x, classmethod)
        }
        names |= {
            f"{kind.__name__}.{name}" for name, x in public.items() if getattr(x, "fset", None) is not None
        }
    tried = {getattr(function, "__name__", "") for function, _ in CALLS.values()} | set(CALLS)
    missing = names - tried - ELSEWHERE - {f"Trainer.{name}" for name in PLAIN}
    assert not {name for name in missing if not name.endswith(("_torch", "_onnx"))}
    assert set(LAYERS) - {"OfATest"} <= tried
    for name, (function, arguments) in CALLS.items():
        if inspect.isclass(function) and "." not in name:
            assert set(arguments) == set(inspect.signature(function).parameters), name


class Silent:
    """An object of anybody's that can neither be shown nor compared nor looked up."""

    def __repr__(self):
        raise RuntimeError("no repr here")

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    __hash__ = None


def nothing(*args, **kwargs):
    return None


def pool():
    """Return odd values by their names."""
    values = {
        "None": None,
        "True": True,
        "False": False,
        "0": 0,
        "-1": -1,
        "10**400": 10**400,
        "-10**400": -(10**400),
        "2**63": 2**63,
        "2.5": 2.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "1e308": 1e308,
        "5e-324": 5e-324,
        "1e-50": 1e-50,
        "1e39": 1e39,
        "-0.0": -0.0,
        "1j": 1j,
        "Decimal": decimal.Decimal("0.1"),
        "Fraction": fractions.Fraction(10**400, 3),
        "empty text": "",
        "text": "text",
        "null": "a\0b",
        "long": "x" * 5000,
        "surrogate": "\ud800",
        "number in text": "3",
        "call": "relu(0.1)",
        "open": "huber(",
        "digits": "huber(" + "9" * 5000 + ")",
        "bytes": b"relu",
        "bytearray": bytearray(b"12"),
        "memoryview": memoryview(b"12"),
        "tuple": (),
        "pair": (1, 2),
        "list": [],
        "nested": [[1, [2, 3]], [4]],
        "texts": ["a", "b"],
        "huge list": [10**400, 1.0],
        "Nones": [None, None],
        "dict": {},
        "dict of text": {"a": 1},
        "odd keys": {(1, 2): None, None: 3},
        "set": {1, 2},
        "frozenset": frozenset({"W1"}),
        "range": range(3),
        "generator": (x for x in "abc"),
        "iterator": iter([1, 2]),
        "object": object(),
        "Silent": Silent(),
        "function": nothing,
        "class": Silent,
        "type": int,
        "module": np,
        "Ellipsis": ...,
        "slice": slice(3),
        "exception": ValueError("x"),
        "ndarray": np.ndarray,
        "NotImplemented": NotImplemented,
        "Adam": nnx.Adam,
        "a layer": nnx.Dense(3),
        "a network": network(),
        "a rate": nnx.schedules.Constant(0.1),
        "0-d": np.asarray(3),
        "0-d float": np.asarray(0.5),
        "0-d bool": np.asarray(True),
        "0-d text": np.asarray("relu"),
        "float32": np.float32(0.5),
        "int64": np.int64(3),
        "bool_": np.bool_(True),
        "NaT": np.datetime64("NaT"),
        "str_": np.str_("relu"),
        "longdouble": np.longdouble(0.1),
        "complex64": np.complex64(1j),
        "float16": np.float16(6e4),
        "void": np.void(b"12"),
        "array": np.ones((2, 12)),
        "vector": np.ones(12),
        "no samples": np.ones((2, 0)),
        "nothing": np.ones(0),
        "three axes": np.ones((2, 2, 2)),
        "integers": np.arange(12),
        "uint64": np.full(12, 2**64 - 1, "uint64"),
        "objects": np.array([1, None, "a"], object),
        "numbers as objects": np.ones((2, 12), object),
        "texts in array": np.full((2, 12), "a"),
        "bytes in array": np.full(12, b"a"),
        "dates": np.zeros(12, "datetime64[s]"),
        "spans": np.zeros(12, "timedelta64[s]"),
        "records": np.zeros(12, [("a", int)]),
        "complex": np.ones((2, 12), complex),
        "half": np.ones((2, 12), "float16"),
        "long double": np.full((2, 12), np.finfo("longdouble").max),
        "bools": np.ones((2, 12), bool),
        "NaNs": np.full((2, 12), np.nan),
        "infinities": np.full(12, np.inf),
        "largest": np.full((2, 12), 1e308),
        "big endian": np.ones((2, 12), ">f8"),
        "masked": np.ma.masked_array(np.ones((2, 12)), np.eye(2, 12, dtype=bool)),
        "masked constant": np.ma.masked,
        "read-only": np.broadcast_to(1.0, (2, 12)),
        "matrix": np.ones((2, 12)).view(np.matrix),
        "float32 array": np.ones((2, 12), "float32"),
        "array of arrays": np.array([np.ones(2), np.ones(3)], object),
        "dtype": np.dtype("float64"),
        "rng": np.random.default_rng(0),
    }
    if pd := optional("pandas"):
        values |= {
            "frame": pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
            "good frame": pd.DataFrame(X.T, columns=["a", "b"]),
            "empty frame": pd.DataFrame(),
            "Series": pd.Series([1.0, 2.0]),
            "NA": pd.NA,
            "pandas NaT": pd.NaT,
            "nullable": pd.array([1, None], dtype="Int64"),
            "Index": pd.Index([1, 2]),
            "Timestamp": pd.Timestamp("2020"),
            "Categorical": pd.Categorical(["a", "b"]),
            "DataFrame": pd.DataFrame,
        }
    if pl := optional("polars"):
        values |= {
            "polars frame": pl.DataFrame({"a": [1.0, None]}),
            "polars Series": pl.Series([1, 2]),
            "lazy": pl.LazyFrame({"a": [1]}),
            "polars type": pl.Float64,
            "expression": pl.col("a"),
            "polars texts": pl.Series(["a"]),
        }
    if torch := optional("torch"):
        values |= {
            "tensor": torch.ones(2, 12),
            "0-d tensor": torch.tensor(3),
            "needs gradient": torch.ones(12, requires_grad=True),
            "complex tensor": torch.ones(2, dtype=torch.complex64),
            "bfloat16": torch.ones(2, 12, dtype=torch.bfloat16),
            "meta": torch.ones(2, 12, device="meta"),
            "torch dtype": torch.float32,
            "parameter": torch.nn.Parameter(torch.ones(12)),
            "sparse tensor": torch.eye(2).to_sparse(),
            "0-d meta": torch.ones((), device="meta"),
        }
    if sparse := optional("scipy.sparse"):
        values |= {"sparse": sparse.eye(2, 12, format="csr"), "sparse objects": sparse.coo_array((2, 12))}
    return values


def changed(value):
    """Return variants of a good array: of another dtype, shape, library or with a bad number."""
    if not isinstance(value, np.ndarray):
        return {}
    bad = value.astype(float)
    bad.flat[0] = np.nan
    variants = {
        "as objects": value.astype(object),
        "as text": value.astype(str),
        "with NaN": bad,
        "as complex": value.astype(complex),
        "as float16": value.astype("float16"),
        "as float32": value.astype("float32"),
        "as int8": value.astype("int8"),
        "transposed": value.T,
        "one more axis": value[None],
        "flat": value.ravel(),
        "as list": value.tolist(),
        "one less": value[..., 1:],
        "masked": np.ma.masked_array(value),
        "reversed": value[..., ::-1],
        "huge": value * 1e300,
        "tiny": value * 1e-320,
        "as matrix": np.atleast_2d(value).view(np.matrix),
    }
    if torch := optional("torch"):
        variants["as tensor"] = torch.tensor(value)
    return variants


PATHS = {"path", "folder", "resume", "model"}
"""What may name a file that is not there."""


def cases():
    """Yield every call with one argument replaced: its name, and what to do."""
    values = pool()
    for name, (_, arguments) in CALLS.items():
        for argument, good in arguments.items():
            for kind, value in (values | changed(good)).items():
                yield name, argument, kind, value


def attempt(name, argument, kind, value):
    """Call it; anything but a result or an error of nnx is an AssertionError that says what was called."""
    function, arguments = CALLS[name]
    allowed = (nnx.Error, OSError) if argument in PATHS else (nnx.Error,)
    try:
        function(**{**arguments, argument: value})
    except allowed as error:
        if isinstance(error, nnx.Error) and len(str(error)) > 2500:
            raise AssertionError(
                f"{name}({argument}={kind}): a message of {len(str(error))} characters"
            ) from error
    except BaseException as error:
        raise AssertionError(f"{name}({argument}={kind}): {type(error).__name__}: {error}") from error


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnx.optimizers.schedules.SCHEDULES", dict(schedules.SCHEDULES))
    monkeypatch.setattr("nnx.model.outputs.OWN", {})
    trainer().save("model.safetensors")
    yield tmp_path
    for registry in (nnx.ACTIVATIONS, LAYERS):
        registry.pop("square", None)
        registry.pop("OfATest", None)


def test_the_good_arguments_are_good(folder):
    for name, (function, arguments) in CALLS.items():
        try:
            function(**arguments)
        except nnx.InputError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_some_odd_arguments(folder):
    for case in random.Random(14).sample(list(cases()), 500):
        attempt(*case)


@pytest.mark.long
def test_many_odd_arguments(folder):
    faults = []
    for case in random.Random(15).sample(list(cases()), 12_000):
        try:
            attempt(*case)
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, f"{len(faults)}: " + "\n".join(faults[:40])
