"""Networks from and to PyTorch, Keras and scikit-learn (edge).

Each way the parameters are copied, and the outputs are the same; samples are rows there, columns here. Only
`to_torch` and `from_torch` import a library, PyTorch; Keras's weights and scikit-learn's are NumPy arrays.
"""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from textwrap import shorten
from typing import Any

import numpy as np

from nnx.array import host
from nnx.errors import InputError, flag, items, number, one_of, scalar, shown
from nnx.model.layers import Activate, BatchNorm, Dense, Dropout, Layer, LayerNorm, PReLU
from nnx.model.network import Network, mlp
from nnx.model.outputs import output as find_output
from nnx.port.base import require
from nnx.support.install import CPU_TORCH
from nnx.support.spec import split

__all__ = ["from_keras", "from_sklearn", "from_torch", "to_keras", "to_sklearn", "to_torch"]

TORCH_NAMES = {
    "W": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "a": "weight",
}
"""PyTorch's names of a layer's parameters."""

TORCH_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {}),
    "identity": ("Identity", {}),
    "elu": ("ELU", {}),
    "selu": ("SELU", {}),
    "gelu": ("GELU", {"approximate": "none"}),
    "gelu_tanh": ("GELU", {"approximate": "tanh"}),
    "silu": ("SiLU", {}),
    "softplus": ("Softplus", {"beta": 1}),
    "softsign": ("Softsign", {}),
    "mish": ("Mish", {}),
    "hard_tanh": ("Hardtanh", {"min_val": -1, "max_val": 1}),
}
"""PyTorch's module of each activation, with its arguments, which are its attributes, too."""

TORCH_SLOPES = {"LeakyReLU": "negative_slope", "ELU": "alpha"}
"""What PyTorch calls the parameter of an activation."""

SKLEARN_NAMES = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exp",
}
"""Our names of scikit-learn's activations and outputs."""


def to_torch(network: Network, params: Any, dtype: str | None = None, link: bool = True) -> Any:
    """Return a network as a `torch.nn.Sequential`, in evaluation mode, on the CPU.

    Its outputs for X.T, samples as rows, are A[L].T.

    Parameters
    ----------
    network : Network
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.
    dtype : {"float32", "float64"} or None
        Of the modules; None: that of the parameters.
    link : bool
        Whether the output's link is the last module. PyTorch's losses (`torch.nn.CrossEntropyLoss`,
        `torch.nn.BCEWithLogitsLoss`) take Z[L]: for them give False.

    Returns
    -------
    torch.nn.Sequential
        A Dense is a Linear and the module of its activation. For training call its `train()`.

    Raises
    ------
    InputError
        When a parameter does not fit; or for what PyTorch has no module: a Residual, GaussianNoise, the link exp,
        a layer or activation of your own.
    BackendError
        When PyTorch is missing.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.Network(4, [nnx.Dense(8, "relu"), nnx.Dropout(0.2), nnx.Dense(3)], output="softmax")
    >>> nnx.convert.to_torch(net, net.init())  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Dropout(p=0.2, inplace=False)
      (3): Linear(in_features=8, out_features=3, bias=True)
      (4): Softmax(dim=1)
    )
    """
    torch = require("torch", "torch", CPU_TORCH)
    arrays = _parameters(network, params)
    made = getattr(torch, host.dtype_name(next(iter(arrays.values())).dtype if dtype is None else dtype))
    modules = []
    for layer, n_prev, p in _walk(network, arrays):
        new = _modules(torch.nn, layer, n_prev, made)
        if p:
            tensors = {
                TORCH_NAMES[name]: torch.tensor(_own(x if name == "W" else x[:, 0])) for name, x in p.items()
            }
            new[0].load_state_dict(tensors, strict=False)  # BatchNorm1d also has a count of batches: 0
        modules += new
    if flag("link", link) and network.output.name != "identity":
        links = {"sigmoid": torch.nn.Sigmoid, "softmax": lambda: torch.nn.Softmax(dim=1)}
        if network.output.name not in links:
            raise InputError(
                f"PyTorch has no module for the output {network.output.name!r}; give link=False, and apply torch.exp "
                "to what the modules return"
            )
        modules.append(links[network.output.name]())
    return torch.nn.Sequential(*modules).eval()


def _modules(nn: Any, layer: Layer, n_prev: int, dtype: Any) -> list[Any]:
    """Return the modules of a layer, the one with its parameters first."""
    place = {"device": "cpu", "dtype": dtype}
    match layer:
        case Dense():
            # skip_init: no weights are drawn, which would move PyTorch's random numbers
            linear = nn.utils.skip_init(nn.Linear, n_prev, layer.n, **place)
            return [linear] + ([] if layer.g.name == "identity" else [_activation_module(nn, layer.g.name)])
        case Activate():
            return [_activation_module(nn, layer.g.name)]
        case Dropout():
            return [nn.Dropout(layer.rate)]
        case BatchNorm():
            return [nn.BatchNorm1d(n_prev, layer.epsilon, layer.momentum, **place)]
        case LayerNorm():
            return [nn.LayerNorm(n_prev, layer.epsilon, **place)]
        case PReLU():
            return [nn.PReLU(n_prev, **place)]
    raise InputError(
        f"the layer {layer!r} has no counterpart in torch.nn; write a torch.nn.Module for it, and give it the "
        "parameters yourself"
    )


def _activation_module(nn: Any, activation: str) -> Any:
    """Return the module of an activation."""
    name, slope = split(activation)
    if name not in TORCH_ACTIVATIONS:
        raise InputError(f"PyTorch has no module for the activation {name!r}")
    kind, arguments = TORCH_ACTIVATIONS[name]
    arguments = dict(arguments)
    if slope is not None:
        arguments[TORCH_SLOPES[kind]] = slope
    if kind == "Softplus":
        arguments["threshold"] = 40  # PyTorch gives z itself above it: exact in float64 from there on
    return getattr(nn, kind)(**arguments)


def from_torch(sequential: Any, output: str, loss: str | None = None) -> tuple[Network, dict[str, Any]]:
    """Return the network, and its parameters, that compute what a `torch.nn.Sequential` does in evaluation mode.

    Parameters
    ----------
    sequential : torch.nn.Sequential
        Of Linear, activations, Dropout, BatchNorm1d, LayerNorm and PReLU; one within another is taken apart. A bias
        that is not there becomes 0, gains and shifts that are not there 1 and 0: in training they are learned. A
        module without parameters may be used again; one with parameters may not, since nnx has no shared ones.
    output : {"sigmoid", "softmax", "identity", "exp"}
        The link. Its module, Sigmoid or Softmax, may stand at the end, or not be there, as is usual with
        CrossEntropyLoss and BCEWithLogitsLoss.
    loss : str or None
        See `Network`.

    Returns
    -------
    network : Network
    params : dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        For a module that has no counterpart, one that does not fit those before it, parameters that two modules share,
        hooks and parametrizations: which one.
    BackendError
        When PyTorch is missing.

    Examples
    --------
    >>> import nnx
    >>> from torch.nn import Linear, ReLU, Sequential  # doctest: +SKIP
    >>> net, params = nnx.convert.from_torch(
    ...     Sequential(Linear(4, 8), ReLU(), Linear(8, 3)), "softmax"
    ... )  # doctest: +SKIP
    >>> net  # doctest: +SKIP
    Network(4, [Dense(8, relu), Dense(3, identity)], output='softmax')
    >>> params["W1"].shape  # doctest: +SKIP
    (8, 4)
    """
    nn = require("torch", "torch", CPU_TORCH).nn
    if not isinstance(sequential, nn.Sequential):
        raise InputError(f"expected a torch.nn.Sequential, not {shown(sequential)}")
    for hooks in ("_global_forward_hooks", "_global_forward_pre_hooks"):
        if getattr(nn.modules.module, hooks, None):
            raise InputError(
                "hooks of all modules are set (torch.nn.modules.module.register_module_forward_hook), which may "
                "change what the Sequential computes; remove them first"
            )
    find_output(output, loss)  # which refuses what is none, before the modules are looked at
    modules = list(_flat(nn, sequential, "", ()))
    if modules and _is_link(nn, modules[-1][1], output):
        modules.pop()
    _refuse_shared(modules)
    sizes = [size for _, module in modules if (size := _size(nn, module)) is not None]
    if not sizes:
        raise InputError("the Sequential has no Linear; a network needs at least one")
    n_features = n = sizes[0]
    layers: list[Layer] = []
    arrays: list[Any] = []
    after_linear = False
    layer: Layer
    for name, module in modules:
        what = _called(name, module)
        size = _size(nn, module)
        if size is not None and size != n:
            raise InputError(f"{what} takes {size} features; those before it give {n}")
        tensors: list[Any] = []
        try:
            if activation := _activation(nn, module):
                layer = Dense(n, activation) if after_linear else Activate(activation)
            else:
                layer, tensors = _layer(nn, module, n, what)
        except InputError as error:
            raise (
                error if str(error).startswith(what) else InputError(f"{what} does not fit: {error}")
            ) from None
        if activation and after_linear:
            layers.pop()  # the Dense that it is the activation of
        layers.append(layer)
        if activation:
            after_linear = False
            continue
        for x, shape in zip(map(_host, tensors), layer.shapes(n).values(), strict=True):
            if x.shape != shape and (*x.shape, 1) != shape:
                raise InputError(f"{what} has a parameter of shape {x.shape}; expected {shape}")
            arrays.append(x)
        n = layer.units(n)
        after_linear = isinstance(layer, Dense)
    network = Network(n_features, layers, output, loss)
    shapes = network.shapes.items()
    return network, {name: x.reshape(shape) for (name, shape), x in zip(shapes, arrays, strict=True)}


def _flat(nn: Any, sequential: Any, prefix: str, around: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the modules with their places, without those that do nothing to (m, n); one used again comes again."""
    _refuse_changed(sequential, f"the Sequential {prefix.rstrip('.')}" if prefix else "the Sequential")
    for method in ("forward", "__call__", "__iter__"):
        if getattr(type(sequential), method) is not getattr(nn.Sequential, method):
            raise InputError(
                f"{type(sequential).__name__} has a {method} of its own, which may compute anything; expected a plain "
                "torch.nn.Sequential"
            )
    if any(sequential is one for one in around):
        raise InputError(f"the Sequential {prefix.rstrip('.')} contains itself")
    for name, module in sequential._modules.items():  # named_children leaves out what comes again
        if module is None:
            raise InputError(f"module {prefix}{name} is None, which computes nothing; leave it out")
        _refuse_changed(module, _called(prefix + name, module))
        if isinstance(module, nn.Sequential):
            yield from _flat(nn, module, f"{prefix}{name}.", (*around, sequential))
        elif type(module) is nn.Flatten and (module.start_dim, module.end_dim) in ((1, -1), (1, 1)):
            pass  # of samples (m, n) it makes (m, n)
        elif type(module) is not nn.Identity:
            yield prefix + name, module


def _called(name: str, module: Any) -> str:
    """Return what an error calls a module: its place and what it is, on one line."""
    kind = f"a {type(module).__name__}" if module._modules else shorten(repr(module), 100, placeholder=" ...")
    return f"module {name}, {kind},"


def _refuse_changed(module: Any, what: str) -> None:
    """Raise an InputError if a module does not compute what its class says."""
    if hasattr(module, "parametrizations"):
        raise InputError(
            f"{what} has parametrizations, which compute its parameters anew in every use; remove them first: "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    if hasattr(module, "has_uninitialized_params"):
        raise InputError(
            f"{what} has no parameters yet; call the Sequential with a sample first, which makes them"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(
            f"{what} has hooks, which may change what it computes (torch.nn.utils.weight_norm, spectral_norm and prune "
            "set such hooks); remove them first, as torch.nn.utils.remove_weight_norm and prune.remove do"
        )
    if "forward" in vars(module):
        raise InputError(f"{what} has a forward of its own, which may compute anything")


def _refuse_shared(modules: Sequence[tuple[str, Any]]) -> None:
    """Raise an InputError if two places have the same parameters or running statistics."""
    places: dict[Any, str] = {}
    for name, module in modules:
        tensors = [*module.parameters(), *module.buffers()]
        for key in {key for x in tensors for key in _identities(x)}:
            if places.setdefault(key, name) != name:
                raise InputError(
                    f"{_called(name, module)} has the parameters of module {places[key]}; nnx has no shared "
                    "parameters. Replace it by a copy, copy.deepcopy(module), which is then trained by itself"
                )


def _identities(x: Any) -> list[Any]:
    """Return what a tensor shares with another if both are one: its object, and where its numbers begin."""
    memory = str(x.layout) == "torch.strided" and x.numel() and x.data_ptr()
    return [("object", id(x))] + ([("memory", x.device, memory)] if memory else [])


def _is_link(nn: Any, module: Any, output: str) -> bool:
    return (output == "sigmoid" and type(module) is nn.Sigmoid) or (
        output == "softmax" and type(module) is nn.Softmax and module.dim in (1, -1)
    )


def _size(nn: Any, module: Any) -> int | None:
    """Return n[l-1] as a module's parameters have it; None where it takes any."""
    kind, shape = type(module), tuple(getattr(getattr(module, "weight", None), "shape", ()))
    if kind is nn.Linear and len(shape) == 2:
        return int(shape[1])
    if kind is nn.PReLU and shape != (1,):  # a single slope fits all
        return int(shape[0])
    if kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        return int(module.normalized_shape[0])
    return int(module.num_features) if kind is nn.BatchNorm1d else None


def _activation(nn: Any, module: Any) -> str | None:
    """Return our name of an activation's module; None where it is none, or has no counterpart."""
    for name, (kind, arguments) in TORCH_ACTIVATIONS.items():
        same = type(module) is getattr(nn, kind)
        same = same and all(_is(getattr(module, key), value) for key, value in arguments.items())
        if same and kind == "Softplus":
            same = number("threshold", module.threshold, "a number", lambda _: True) >= 20
        if same and kind in TORCH_SLOPES:
            slope = TORCH_SLOPES[kind]
            return f"{name}({number(slope, getattr(module, slope), 'one number', lambda _: True)!r})"
        if same:
            return name
    return None


def _is(given: Any, value: Any) -> bool:
    """Whether a module's attribute is this number or text; an array of several is not."""
    given = scalar(given)
    return isinstance(given, Real | str) and given == value


def _layer(nn: Any, module: Any, n: int, what: str) -> tuple[Layer, list[Any]]:
    """Return the layer of a module that takes n features, and its parameters in our order, or raise."""
    kind = type(module)
    if kind is nn.Linear:
        bias = module.weight.new_zeros(module.weight.shape[0]) if module.bias is None else module.bias
        return Dense(module.weight.shape[0]), [module.weight, bias]
    if kind is nn.Dropout:
        return Dropout(module.p), []
    if kind is nn.PReLU:
        return PReLU(), [module.weight.expand(n)]
    if kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        return LayerNorm(module.eps), _gain_and_shift(module.weight, module.bias, n)
    if kind is nn.BatchNorm1d:
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None or module.momentum is None:
            raise InputError(
                f"{what} has no running statistics, or a plain mean of them (momentum=None); nnx's BatchNorm has a "
                "moving one"
            )
        tensors = [*_gain_and_shift(module.weight, module.bias, n, like=mean), mean, variance]
        return BatchNorm(module.momentum, module.eps), tensors
    raise InputError(
        f"{what} has no counterpart in nnx; known: Linear, Dropout, BatchNorm1d, LayerNorm, PReLU, "
        f"{', '.join(dict.fromkeys(name for name, _ in TORCH_ACTIVATIONS.values()))}"
    )


def _gain_and_shift(gain: Any, shift: Any, n: int, like: Any = None) -> list[Any]:
    """Return gamma and beta, 1 and 0 where they are not there."""
    like = next((x for x in (gain, shift, like) if x is not None), None)
    if like is None:  # a LayerNorm with neither
        return [np.ones(n, np.float32), np.zeros(n, np.float32)]
    return [like.new_ones(n) if gain is None else gain, like.new_zeros(n) if shift is None else shift]


def _host(tensor: Any) -> Any:
    """Return a tensor as a NumPy array of its own memory, float64 or float32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if not tensor.is_floating_point() or tensor.is_meta:
        where = " on the device meta, which has none" if tensor.is_meta else ""
        raise InputError(f"a parameter has the dtype {tensor.dtype}{where}; expected real numbers")
    if str(tensor.layout) != "torch.strided":
        raise InputError(f"a parameter has the layout {tensor.layout}; make it dense: its to_dense()")
    tensor = tensor.detach().cpu()
    return host.copy((tensor if str(tensor.dtype) == "torch.float64" else tensor.float()).numpy())


def to_keras(network: Network, params: Any) -> list[Any]:
    """Return the parameters as a Keras model of the same layers has them, for its `set_weights`.

    Parameters
    ----------
    network : Network
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.

    Returns
    -------
    list of NumPy arrays
        Layer by layer: of a Dense the kernel (n[l-1], n[l]), which is W[l].T, and the bias (n[l],); of a
        BatchNormalization gamma, beta, moving_mean and moving_variance, of a LayerNormalization gamma and beta, of
        a PReLU alpha, each (n[l],). A Residual has those of its block.

    Raises
    ------
    InputError
        When a parameter does not fit, or belongs to a layer of your own.

    Notes
    -----
    Keras's norms have an epsilon of 1e-3 unless told otherwise, ours 1e-5; and its BatchNormalization's momentum is
    the share of the old statistics, 1 less ours. Give both to the layers there.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([4, 8, 3])
    >>> [x.shape for x in nnx.convert.to_keras(net, net.init())]
    [(4, 8), (8,), (8, 3), (3,)]
    """
    arrays = _parameters(network, params)
    _keras_layout(network)  # refuses what Keras has not
    return [
        _own(x.T if key == "W" else x[:, 0]) for _, _, p in _walk(network, arrays) for key, x in p.items()
    ]


def from_keras(weights: Sequence[Any], network: Network) -> dict[str, Any]:
    """Return a network's parameters from the weights of a Keras model of the same layers, its `get_weights()`.

    Parameters
    ----------
    weights : list of arrays
        In Keras's order and shapes, see `to_keras`.
    network : Network
        What the model is, as the weights do not say it: its activations, the epsilon of its norms (`BatchNorm(
        momentum=0.01, epsilon=1e-3)` is Keras's default).

    Returns
    -------
    dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        When their number or a shape does not fit: which one.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> params = nnx.convert.from_keras([np.ones((4, 3)), np.zeros(3)], nnx.mlp([4, 3]))
    >>> params["W1"].shape, params["b1"].shape
    ((3, 4), (3, 1))
    """
    _check_network(network)
    layout = _keras_layout(network)
    if (
        isinstance(weights, np.ndarray)
        or not isinstance(weights, Sequence)
        or isinstance(weights, str | bytes)
    ):
        raise InputError(
            f"weights must be a list of arrays, as get_weights() returns; given {shown(weights)}"
        )
    if len(weights) != len(layout):
        expected = ", ".join(f"{word} {shape}" for word, shape in layout.values())
        raise InputError(
            f"weights has {len(weights)} arrays; expected {len(layout)} for {network!r}: {expected}. (A Keras layer "
            "with use_bias=False, scale=False or center=False lacks one: put zeros, or ones for the scale)"
        )
    params = {}
    for i, (x, (name, (word, shape))) in enumerate(zip(weights, layout.items(), strict=True)):
        x = _numbers(f"weights[{i}]", x)
        if x.shape != shape:
            hint = "; its transpose would fit" if x.shape == shape[::-1] else ""
            raise InputError(f"weights[{i}] has shape {x.shape}; expected the {word} {shape} of {name}{hint}")
        params[name] = _own(x.T if word == "kernel" else x[:, None])
    return params


KERAS_NAMES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
    "a": "alpha",
}
"""Keras's names of a layer's parameters."""


def _keras_layout(network: Network) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return Keras's name and shape of every parameter, in its order, which is ours."""
    layout = {}
    shapes = iter(network.shapes.items())
    for layer, n_prev, _ in _walk(network, None):
        for key in layer.shapes(n_prev):
            name, shape = next(shapes)
            if not isinstance(layer, Dense | BatchNorm | LayerNorm | PReLU):
                raise InputError(f"Keras has no counterpart of the layer {layer!r}, which has parameters")
            layout[name] = KERAS_NAMES[key], (shape[::-1] if key == "W" else shape[:1])
    return layout


def to_sklearn(network: Network, params: Any) -> tuple[list[Any], list[Any]]:
    """Return the parameters as scikit-learn's MLPClassifier and MLPRegressor have them: coefs_ and intercepts_.

    Parameters
    ----------
    network : Network
        Of Dense alone, whose hidden ones have one activation: identity, sigmoid ("logistic" there), tanh or relu.
        Dropout is left out: it does nothing in prediction.
    params : dict of arrays, or array (P,)
        The parameters by name, or theta, of any library.

    Returns
    -------
    coefs : list of NumPy arrays (n[l-1], n[l])
        W[l].T.
    intercepts : list of NumPy arrays (n[l],)

    Raises
    ------
    InputError
        When a parameter does not fit, or scikit-learn cannot compute the network.

    Examples
    --------
    >>> import nnx
    >>> net = nnx.mlp([4, 8, 3])
    >>> coefs, intercepts = nnx.convert.to_sklearn(net, net.init())
    >>> [W.shape for W in coefs], [b.shape for b in intercepts]
    ([(4, 8), (8, 3)], [(8,), (3,)])
    """
    arrays = _parameters(network, params)
    for layer in network.layers:
        if not isinstance(layer, Dense | Dropout):
            raise InputError(f"scikit-learn's MLP has no counterpart of the layer {layer!r}")
    hidden = {layer.g.name for layer in network.layers[:-1] if isinstance(layer, Dense)}
    if len(hidden) > 1 or not hidden <= {"identity", "sigmoid", "tanh", "relu"}:
        raise InputError(
            "scikit-learn's MLP has one activation in all its hidden layers: identity, sigmoid, tanh or relu; "
            f"given {', '.join(sorted(hidden))}"
        )
    layers = range(1, network.L + 1)
    return [_own(arrays[f"W{l}"].T) for l in layers], [_own(arrays[f"b{l}"][:, 0]) for l in layers]


def from_sklearn(
    fitted: Any, hidden: str | None = None, output: str | None = None
) -> tuple[Network, dict[str, Any]]:
    """Return the network, and its parameters, of scikit-learn's MLPClassifier or MLPRegressor.

    Parameters
    ----------
    fitted : MLPClassifier, MLPRegressor, or pair (coefs, intercepts)
        A fitted estimator, or the two lists that `to_sklearn` returns.
    hidden : str or None
        Of a pair: the activation of the hidden layers, by our name or scikit-learn's. An estimator says it itself.
    output : {"sigmoid", "softmax", "identity", "exp"} or None
        Of a pair: the link.

    Returns
    -------
    network : Network
        Class k is the estimator's classes_[k]; of two classes, A[L] is the probability of classes_[1].
    params : dict of NumPy arrays
        In the notes' shapes, for `Trainer.parameters` or `Network.flatten`.

    Raises
    ------
    InputError
        When it is not fitted, or shapes do not fit: which ones.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> pair = [np.ones((4, 8)), np.ones((8, 1))], [np.zeros(8), np.zeros(1)]
    >>> net, params = nnx.convert.from_sklearn(pair, hidden="logistic", output="identity")
    >>> net
    Network(4, [Dense(8, sigmoid), Dense(1, identity)], output='identity')
    """
    if isinstance(fitted, tuple | list):
        if len(fitted) != 2 or hidden is None or output is None:
            raise InputError(
                "of a pair (coefs, intercepts) give hidden and output, too: hidden='relu', output='softmax'"
            )
        coefs, intercepts = (
            items(name, x, "a list of arrays")
            for name, x in zip(("coefs", "intercepts"), fitted, strict=True)
        )
    else:
        if not hasattr(fitted, "coefs_") or not hasattr(fitted, "out_activation_"):
            raise InputError(
                "expected a fitted MLPClassifier or MLPRegressor, or a pair (coefs, intercepts); given "
                f"{shown(fitted)}"
            )
        if hidden is not None or output is not None:
            raise InputError(
                f"{type(fitted).__name__} says itself what hidden and output are; leave them out"
            )
        network = getattr(fitted, "network_", None)  # nnx's estimators have more layers than scikit-learn's
        if network is not None and any(
            layer.shapes(1) and not isinstance(layer, Dense) for layer in network.layers
        ):
            raise InputError(
                f"{type(fitted).__name__} was fitted with normalization, whose parameters are not among its coefs_ and "
                "intercepts_; fit one with normalization=None"
            )
        coefs, intercepts = (
            items(name, getattr(fitted, name, None), "a list of arrays") for name in ("coefs_", "intercepts_")
        )
        hidden, output = fitted.activation, fitted.out_activation_
        for name in (hidden, output):
            one_of("activation of scikit-learn", name, SKLEARN_NAMES)
    if len(coefs) != len(intercepts) or not len(coefs):
        raise InputError(f"{len(coefs)} coefs and {len(intercepts)} intercepts; expected one of each a layer")
    params: dict[str, Any] = {}
    n: list[int] = []
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        W, b = _numbers(f"coefs[{i}]", W), _numbers(f"intercepts[{i}]", b)
        n = n or list(W.shape[:1])
        if W.ndim != 2 or W.shape[0] != n[-1] or b.shape != W.shape[1:]:
            raise InputError(
                f"coefs[{i}] has shape {W.shape}, intercepts[{i}] {b.shape}; expected "
                f"({', '.join(map(str, n[-1:]))}, units) and (units,)"
            )
        n.append(W.shape[1])
        params |= {f"W{i + 1}": _own(W.T), f"b{i + 1}": _own(b[:, None])}
    hidden, output = (SKLEARN_NAMES.get(x, x) if isinstance(x, str) else x for x in (hidden, output))
    return mlp(n, hidden, output), params


def _check_network(network: Any) -> None:
    if not isinstance(network, Network):
        raise InputError(f"network must be an nnx.Network, as nnx.mlp makes it; given {shown(network)}")


def _parameters(network: Network, params: Any) -> dict[str, Any]:
    """Return the parameters by name, NumPy arrays, checked against the network."""
    _check_network(network)
    if isinstance(params, Mapping):
        params = network.flatten({name: _numbers(name, x) for name, x in params.items()})
    theta = _numbers("theta", params)
    if theta.ndim != 1:
        raise InputError(f"theta has shape {theta.shape}; expected ({network.P},): one network, not a stack")
    return network.unflatten(theta)


def _numbers(name: str, x: Any) -> Any:
    """Return x as a NumPy array, float64 or float32."""
    x = host.as_host(host.as_numbers(name, x))
    return x.astype(np.result_type(x.dtype, np.float32), copy=False)


def _own(x: Any) -> Any:
    """Return a copy, its rows one after the other."""
    return np.array(x, order="C")


def _walk(network: Network, arrays: Mapping[str, Any] | None) -> Iterator[tuple[Layer, int, dict[str, Any]]]:
    """Yield every layer, a Residual before those inside it, with n[l-1] and its own parameters, if given."""
    values = iter((arrays or {}).values())

    def walk(layers: Sequence[Layer], n_prev: int) -> Iterator[tuple[Layer, int, dict[str, Any]]]:
        for layer in layers:
            own = (
                {} if layer.layers or arrays is None else {key: next(values) for key in layer.shapes(n_prev)}
            )
            yield layer, n_prev, own
            yield from walk(layer.layers, n_prev)
            n_prev = layer.units(n_prev)

    return walk(network.layers, network.n_features)
