"""What a fit leaves in an estimator: coefs_ and intercepts_, views of one vector, or members; and its pickle."""

from functools import cache
from inspect import getattr_static
from typing import Any

from sklearn.base import BaseEstimator

from nnx.array import host
from nnx.array.namespace import Array, array_namespace
from nnx.io.convert.sklearn import SKLEARN_NAMES
from nnx.model.network import Network
from nnx.port.base import Backend
from nnx.sklearn import samples
from nnx.sklearn.fitting import TOO_LARGE, Fit
from nnx.sklearn.member_params import ALONE, OF_ONE
from nnx.sklearn.memory import optimizer_memory


class Fitted(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The fitted attributes of both estimators."""

    coefs_: list[Any]
    intercepts_: list[Any]
    _views: list[Any]
    _embedded: Any
    """The embedding of numbers without its edges, or None: see `nnx.sklearn.embeddings`."""
    _embedding_seed: int
    _ready: dict[Any, Any]

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:  # a search asks several times for each fit
        names: list[str] = super()._get_param_names()
        return names

    def _theta(self, network: Network) -> Array:
        """Return all parameters as one vector: that which coefs_ and intercepts_ are views of, unless they were set."""
        handed = [*self.coefs_, *self.intercepts_]
        views = self.__dict__.get("_views", [])
        if len(views) == len(handed) and all(a is b for a, b in zip(views, handed, strict=True)):
            return self._vector
        params = network.unflatten(
            network.init(self._embedding_seed, "float64")
            if "_vector" not in self.__dict__
            else host.as_host(self._vector)
        )
        for l, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True), 1):
            params |= {f"W{l}": host.as_host(W).T, f"b{l}": host.as_host(b)[:, None]}
        return network.flatten(params)

    def _take_up(self, fit: Fit) -> None:
        """Hand out coefs_ and intercepts_ of a fit that has run: views of theta, where X's library is the backend's."""
        theta, dtype = fit.trainer.session.read("theta")["theta"], self.dtype or samples.dtype_of(fit.X)
        xp = array_namespace(theta)
        if samples.dtype_of(theta) != dtype:
            theta = xp.astype(theta, getattr(xp, dtype))
        if not host.is_finite(theta):
            raise ValueError(TOO_LARGE)
        self._vector = theta
        self._hand_out(samples.given_back(theta, fit.trainer.backend, fit.X))

    def _hand_out(self, theta: Array) -> None:
        self.__dict__.update(self._views_of(theta))

    def _views_of(self, theta: Array) -> dict[str, Any]:
        """Return the attributes that are views of theta."""
        params = self.network_.unflatten(theta)
        hidden = range(1, self.network_.L + 1)
        coefs = [params[f"W{l}"].T for l in hidden]
        intercepts = [params[f"b{l}"][:, 0] for l in hidden]
        return {"coefs_": coefs, "intercepts_": intercepts, "_views": [*coefs, *intercepts], "_ready": {}}

    def _attributes_of(self, theta: Array, backend: Backend) -> dict[str, Any]:
        """Return the attributes of an epoch of a fit that runs: parameters on the host, and the curves so far."""
        vector = host.copy(backend.to_numpy(theta))
        curves = ("loss_curve_", "validation_scores_", "validation_loss_curve_")
        kept = {name: list(vars(self)[name]) for name in curves if vars(self).get(name) is not None}
        return {"_vector": vector, **self._views_of(vector), **kept}

    def __getattr__(self, name: str) -> Any:
        """Raise an error that says where the attributes of members are, or why the estimator has no such method."""
        if (is_there := getattr(getattr_static(type(self), name, None), "check", None)) is not None:
            is_there(self)  # that of an `available_if`, which raises
        text = f"{type(self).__name__!r} object has no attribute {name!r}"
        if name in OF_ONE and "members_" in self.__dict__:
            text = f"each of the {len(self.members_)} members has its own {name}: take members_[0].{name}"
        raise AttributeError(text, name=name, obj=self)

    # --- pickle -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the fitted attributes as NumPy arrays, which any machine can load."""
        state = {**super().__getstate__()}
        trainer = state.pop("_trainer", None)
        for name in ("_ready", "_made", "_looked_at", "_forwards", "_stack"):
            state.pop(name, None)
        if "network_" in state:
            vector = host.copy(host.as_host(self._theta(self.network_)))
            state |= {"network_": self.network_.describe(), "_vector": vector}
            for name in ("coefs_", "intercepts_", "_views"):
                state.pop(name, None)
        if trainer is not None and trainer.optimizer is state.get("_optimizer"):
            state["_memory"] = optimizer_memory(trainer)
        for name in ("classes_", "_best"):
            if name in state:
                state[name] = host.as_host(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the network and the views of its parameters again."""
        # of a pickle from before there were these
        before: dict[str, Any] = {"precision": None, "numerical_embeddings": None, **ALONE}
        if "class_weight" in self._get_param_names():
            before |= {"class_weight": None, "loss": "log_loss"}
        if "out_activation_" in state:
            before["_link"] = SKLEARN_NAMES[state["out_activation_"]], None
        if "network_" in state:
            scores = state.get("validation_scores_")
            watched = None if scores is None else ("validation_fraction", True)
            before |= {"validation_scores_": None, "validation_loss_curve_": None, "_watched": watched}
            before["_embedded"] = None
        super().__setstate__({**before, **state})
        if "network_" in state:
            self.network_ = Network.from_description({**state["network_"], "loss": self._link[1]})
            self._hand_out(self._vector)
