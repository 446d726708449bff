"""PyTorch: its layers, losses, autograd and optimizers; eager and compiled."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from nnx.bench.case import Case, Data
from nnx.bench.clocks import torch_events, wall
from nnx.bench.contestant import Absent, Contestant, library, only
from nnx.bench.memory import torch_peak


def eager(case: Case, data: Data) -> Contestant:
    """Return PyTorch on the CPU."""
    return _contestant(case, data, "cpu", compiled=False)


def compiled(case: Case, data: Data) -> Contestant:
    """Return PyTorch on the CPU, cost and update compiled, which takes a C++ compiler."""
    return _contestant(case, data, "cpu", compiled=True)


def eager_on_gpu(case: Case, data: Data) -> Contestant:
    """Return PyTorch on a GPU."""
    return _contestant(case, data, "cuda", compiled=False)


def compiled_on_gpu(case: Case, data: Data) -> Contestant:
    """Return PyTorch on a GPU: the cost compiled, the whole step a CUDA graph."""
    return _contestant(case, data, "cuda", compiled=True)


def usable(device: str) -> Any:
    """Return PyTorch, or raise Absent where it cannot use the device."""
    torch = library("torch", "torch")
    if device == "cuda":
        if not torch.cuda.is_available():
            raise Absent("PyTorch finds no CUDA GPU")
        torch.set_float32_matmul_precision("highest")  # an environment variable may have allowed TF32
    return torch


def module(torch: Any, case: Case, device: str, start: dict[str, Any]) -> Any:
    """Return the network with these parameters."""
    nn, layers = torch.nn, []
    for n_prev, n in pairwise(case.sizes):
        layers += [nn.Linear(n_prev, n), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(device, getattr(torch, case.dtype))
    with torch.no_grad():
        for l, linear in enumerate(model[::2], 1):
            linear.weight.copy_(torch.from_numpy(start[f"W{l}"]))
            linear.bias.copy_(torch.from_numpy(start[f"b{l}"][:, 0]))
    return model


WARM_UP = 3
"""Steps before the CUDA graph: they compile, and make what no stream may make while it captures."""


def _captured(torch: Any, step: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that does the step: the first times as it is, then as one CUDA graph."""
    stream, graph, done = torch.cuda.Stream(), torch.cuda.CUDAGraph(), 0

    def run() -> None:
        nonlocal done
        if done < WARM_UP:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            if done == WARM_UP:
                with torch.cuda.graph(graph, stream=stream):
                    step()
            graph.replay()
        done += 1

    return run


def loss_of(torch: Any, case: Case) -> Any:
    """Return the loss."""
    return torch.nn.CrossEntropyLoss() if case.sizes[-1] > 1 else torch.nn.BCEWithLogitsLoss()


def samples(torch: Any, case: Case, data: Data, device: str) -> tuple[Any, Any]:
    """Return X (M, n[0]), and the classes (M,) or, for the sigmoid, (M, 1)."""
    X, y = torch.from_numpy(data.X).to(device), torch.from_numpy(data.y).to(device)
    return X, y.long() if case.sizes[-1] > 1 else y[:, None].to(X.dtype)


def about(torch: Any, device: str) -> dict[str, Any]:
    """Return the part of a contestant that tells about the library and the device."""
    told = {"library": f"torch {torch.__version__}", "device": device}
    if device == "cpu":
        return {**told, "clock": wall(), "detail": f"{torch.get_num_threads()} threads of its own"}
    told |= {"clock": torch_events(device), "detail": torch.cuda.get_device_name()}
    return {**told, "peak": lambda: torch_peak(torch, device)}


def _training(
    torch: Any, case: Case, model: Any, X: Any, Y: Any, compiled: bool, is_graph: bool
) -> Callable[[], float]:
    """Return a function that trains one epoch and returns its mean cost."""
    loss = loss_of(torch, case)
    total = torch.zeros((), dtype=X.dtype, device=X.device)
    options = {"capturable": True, "fused": True} if is_graph and case.optimizer == "adam" else {}
    optim = torch.optim.Adam if case.optimizer == "adam" else torch.optim.SGD
    optimizer = optim(model.parameters(), lr=case.learning_rate, **options)
    batch = X[: case.m].clone(), Y[: case.m].clone()  # where a graph reads its samples

    def cost(X: Any, Y: Any) -> Any:
        return loss(model(X), Y)

    update = optimizer.step
    if compiled:
        cost = torch.compile(cost)
        update = update if is_graph else torch.compile(update)

    def step(X: Any, Y: Any) -> None:
        optimizer.zero_grad()
        J = cost(X, Y)
        J.backward()
        total.add_(J.detach())
        update()

    graph = _captured(torch, lambda: step(*batch)) if is_graph else None

    def epoch() -> float:
        total.zero_()
        order = torch.randperm(case.M, device=X.device) if case.shuffled else None
        for place in case.places():
            pick = place if order is None else order[place]
            if graph is None:
                step(X[pick], Y[pick])
                continue
            for values, kept in zip((X, Y), batch, strict=True):
                if order is None:
                    kept.copy_(values[place])
                else:
                    torch.index_select(values, 0, pick, out=kept)
            graph()
        return float(total / case.steps)

    return epoch


def _contestant(case: Case, data: Data, device: str, compiled: bool) -> Contestant:
    only(case, "gradient_descent", "adam")
    torch = usable(device)
    model = module(torch, case, device, case.start())
    X, Y = samples(torch, case, data, device)
    epoch = _training(torch, case, model, X, Y, compiled, compiled and device == "cuda")

    def parameters() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for l, linear in enumerate(model[::2], 1):
            found[f"W{l}"] = linear.weight.detach().cpu().numpy()
            found[f"b{l}"] = linear.bias.detach().cpu().numpy()[:, None]
        return found

    return Contestant(epoch, parameters=parameters, **about(torch, device))
