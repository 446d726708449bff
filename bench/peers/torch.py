"""PyTorch: its layers, losses, autograd and optimizers; eager and compiled."""

from itertools import pairwise
from typing import Any

from nnx.bench.case import Case, Data
from nnx.bench.clocks import torch_events, wall
from nnx.bench.contestant import Absent, Contestant, library, only


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
    """Return PyTorch on a GPU, compiled with CUDA graphs."""
    return _contestant(case, data, "cuda", compiled=True)


def _model(torch: Any, case: Case, device: str) -> Any:
    """Return the network with the case's first parameters."""
    nn, layers, start = torch.nn, [], case.start()
    for n_prev, n in pairwise(case.sizes):
        layers += [nn.Linear(n_prev, n), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(device, getattr(torch, case.dtype))
    with torch.no_grad():
        for l, linear in enumerate(model[::2], 1):
            linear.weight.copy_(torch.from_numpy(start[f"W{l}"]))
            linear.bias.copy_(torch.from_numpy(start[f"b{l}"][:, 0]))
    return model


def _contestant(case: Case, data: Data, device: str, compiled: bool) -> Contestant:
    only(case, "gradient_descent", "adam")
    torch = library("torch", "torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent("PyTorch finds no CUDA GPU")
    nn, model = torch.nn, _model(torch, case, device)
    X, y = torch.from_numpy(data.X).to(device), torch.from_numpy(data.y).to(device)
    several = case.sizes[-1] > 1
    loss = nn.CrossEntropyLoss() if several else nn.BCEWithLogitsLoss()
    Y = y.long() if several else y[:, None].to(X.dtype)
    optim = torch.optim.Adam if case.optimizer == "adam" else torch.optim.SGD
    optimizer = optim(model.parameters(), lr=case.learning_rate)

    def cost(X: Any, Y: Any) -> Any:
        return loss(model(X), Y)

    update = optimizer.step
    if compiled:
        mode = "reduce-overhead" if device == "cuda" else None
        cost, update = torch.compile(cost, mode=mode), torch.compile(update, mode=mode)

    def epoch() -> float:
        order = torch.randperm(case.M, device=device) if case.shuffled else None
        total = torch.zeros((), dtype=X.dtype, device=device)
        for place in case.places():
            pick = place if order is None else order[place]
            if compiled and device == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad()
            J = cost(X[pick], Y[pick])
            J.backward()
            total += J.detach()  # before the next graph, which may write over it
            update()
        return float(total / case.steps)

    def parameters() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for l, linear in enumerate(model[::2], 1):
            found[f"W{l}"] = linear.weight.detach().cpu().numpy()
            found[f"b{l}"] = linear.bias.detach().cpu().numpy()[:, None]
        return found

    def peak() -> int:
        found = int(torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()
        return found

    version = f"torch {torch.__version__}"
    if device == "cuda":
        clock, name = torch_events(device), torch.cuda.get_device_name()
        return Contestant(epoch, clock, parameters, version, device, name, peak)
    return Contestant(
        epoch, wall(), parameters, version, device, f"{torch.get_num_threads()} threads of its own"
    )
