"""The best low-rank map from some inputs to some outputs, in closed form.

For inputs x and outputs t the product W of rank r with the least Σ‖W x − t‖² is a truncated SVD in the coordinates that
the inputs span: with H = Σ x xᵀ = L Lᵀ and G = Σ t xᵀ the sum is ‖W L − G L⁻ᵀ‖² and a constant, and so
W L = (G L⁻ᵀ)_r (reduced-rank regression; Izenman 1975). A ridge towards the matrix that was replaced, or towards 0
where there was none, decides what the inputs leave open.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ablc.patching.svd import exact, factors_of, set_product, truncated

RIDGE = 1e-3  # of the mean square of an input
ROUNDING = 1e-12  # of the same, in fp64


@torch.no_grad()
def solve(pair: nn.Module, original: nn.Module, rows: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Set a pair with nothing between its factors to the best there is for (inputs, wanted outputs); a table's inputs
    are ids. A bias of the second factor is fitted with it, one of the first is 0."""
    outer, inner = factors_of(pair)
    if isinstance(pair.get_submodule("A"), nn.Embedding):
        _solve_table(outer, inner, exact(factor_weight(original)), rows)
        return
    first, second = (getattr(pair.get_submodule(name), "bias", None) for name in "AB")
    prior = exact(factor_weight(original)) if isinstance(original, nn.Linear) else None
    mean_in, mean_out, squares, products = _moments(rows, centred=second is not None)
    spread = float(squares.diagonal().mean())
    # Inputs that are all the same have no spread but what rounding left.
    ridge = max(RIDGE * spread, ROUNDING * (abs(spread) + float(mean_in.square().mean()))) or 1.0
    squares += ridge * torch.eye(len(squares), dtype=squares.dtype, device=squares.device)
    if prior is not None:
        products += ridge * prior.to(products.device)
    root = torch.linalg.cholesky(squares)
    left, right, _ = truncated(torch.linalg.solve_triangular(root, products.T, upper=False).T, outer.shape[1])
    right = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    set_product(outer, inner, left, right)
    if first is not None:
        first.zero_()
    if second is not None:
        second.copy_(mean_out - left @ (right @ mean_in))


def factor_weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _solve_table(outer: Tensor, inner: Tensor, table: Tensor, rows: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Each row of the table counts as often as its id occurs: H is diagonal, and G is H times the table."""
    counts = torch.zeros(len(table), dtype=table.dtype, device=table.device)
    for ids, _ in rows:
        counts += torch.bincount(ids.to(counts.device), minlength=len(counts))
    roots = (counts + RIDGE * counts.mean()).sqrt()[:, None]
    left, right, _ = truncated(roots * table, outer.shape[1])
    set_product(outer, inner, left / roots, right)


def _moments(rows: Iterator[tuple[Tensor, Tensor]], *, centred: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of x and t, Σ x xᵀ / n and Σ t xᵀ / n, the last two about the means where `centred`; a piece at a time."""
    count, sum_in, sum_out, squares, products = 0, *(torch.zeros((), dtype=torch.float64) for _ in range(4))
    for given, wanted in rows:
        x, t = exact(given), exact(wanted)
        sum_in, sum_out = x.sum(0) + sum_in.to(x.device), t.sum(0) + sum_out.to(x.device)
        squares, products = x.T @ x + squares.to(x.device), t.T @ x + products.to(x.device)
        count += len(x)
    mean_in, mean_out, squares, products = sum_in / count, sum_out / count, squares / count, products / count
    if centred:
        squares = squares - torch.outer(mean_in, mean_in)
        products = products - torch.outer(mean_out, mean_in)
    return mean_in, mean_out, squares, products
