"""PyTorch: an ensemble with `torch.func`, its gradients through `vmap`, one optimizer over the stacked parameters.

As in PyTorch's tutorial on model ensembling: https://pytorch.org/tutorials/intermediate/ensembling.html
"""

from typing import Any

import numpy as np

from nnx.bench.case import Case, Data
from nnx.bench.contestant import Contestant, only
from nnx.bench.peers.torch import about, loss_of, module, samples, usable


def on_cpu(case: Case, data: Data) -> Contestant:
    """Return PyTorch on the CPU."""
    return _contestant(case, data, "cpu")


def on_gpu(case: Case, data: Data) -> Contestant:
    """Return PyTorch on a GPU."""
    return _contestant(case, data, "cuda")


def _contestant(case: Case, data: Data, device: str) -> Contestant:
    only(case, "gradient_descent", "adam")
    torch = usable(device)
    modules = [module(torch, case, device, start) for start in case.starts()]
    params, _ = torch.func.stack_module_state(modules)
    params = {name: p.detach() for name, p in params.items()}
    base, loss = modules[0].to("meta"), loss_of(torch, case)

    def cost(params: Any, X: Any, Y: Any) -> Any:
        return loss(torch.func.functional_call(base, params, (X,)), Y)

    batch_axis = 0 if case.shuffled else None
    gradients = torch.func.vmap(torch.func.grad_and_value(cost), in_dims=(0, batch_axis, batch_axis))
    optim = torch.optim.Adam if case.optimizer == "adam" else torch.optim.SGD
    optimizer = optim(params.values(), lr=case.learning_rate)
    X, Y = samples(torch, case, data, device)
    orders = case.orders()

    def epoch() -> Any:
        total = torch.zeros(case.K, dtype=X.dtype, device=device)
        if case.shuffled:
            order = torch.from_numpy(np.stack([rng.permutation(case.M) for rng in orders])).to(device)
        for place in case.places():
            pick = order[:, place] if case.shuffled else place
            grads, J = gradients(params, X[pick], Y[pick])
            for name, p in params.items():
                p.grad = grads[name]
            total += J
            optimizer.step()
        return total.cpu() / case.steps

    def parameters() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for l in range(1, len(case.sizes)):
            W, b = (params[f"{2 * l - 2}.{name}"].cpu().numpy() for name in ("weight", "bias"))
            found |= {f"W{l}": W, f"b{l}": b[..., None]}
        return found

    return Contestant(epoch, parameters=parameters, **about(torch, device))
