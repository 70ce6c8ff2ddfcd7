"""Sweeps over groups of inputs against least squares by explicit inverses, exhaustive search and outputs measured on
the inputs themselves (Hassibi and Stork 1993; Kurtic, Frantar and Alistarh 2023)."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.second_order import groups as groups_module
from pruning.second_order import surgery
from pruning.second_order.groups import Sweep, adjacent, exact, filling, sweep
from workloads.errors import UserError

DAMP = 0.01


def problem(rows: int, cols: int, seed: int = 0, tokens: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(weight, inputs (tokens, cols) with correlated features of unequal size, hessian)."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.eye(cols) + 0.5 * torch.randn(cols, cols, generator=draw) / cols**0.5
    inputs = torch.randn(tokens or 4 * cols, cols, generator=draw) @ mix * (0.2 + torch.rand(cols, generator=draw))
    return torch.randn(rows, cols, generator=draw), inputs, inputs.T @ inputs


def damped(hessian: torch.Tensor, damp: float) -> torch.Tensor:
    """Dead inputs 1, then damp times the mean diagonal (methods 2.1), float64."""
    full = hessian.double().clone()
    for j in range(len(full)):
        if full[j, j] == 0:
            full[j, j] = 1
    return full + damp * full.trace() / len(full) * torch.eye(len(full), dtype=torch.float64)


def twin(weight: torch.Tensor, hessian: torch.Tensor, kept: list[int], damp: float) -> torch.Tensor:
    """The best weights on `kept`: W G_:K (G_KK)^-1 with an explicit inverse, float64."""
    full, best = damped(hessian, damp), torch.zeros(weight.shape, dtype=torch.float64)
    if kept:
        alive = weight.double() * (hessian.diagonal() != 0)
        best[:, kept] = alive @ full[:, kept] @ torch.linalg.inv(full[kept][:, kept])
    return best


def cost(weight: torch.Tensor, made: torch.Tensor, metric: torch.Tensor) -> float:
    """tr((W - W') metric (W - W')^T)"""
    change = weight.double() - made
    return float((change @ metric.double() @ change.T).trace())


def measured(weight: torch.Tensor, made: torch.Tensor, inputs: torch.Tensor) -> float:
    """||X (W - W')^T||^2"""
    return float((inputs.double() @ (weight.double() - made.double()).T).square().sum())


def greedy_twin(weight: torch.Tensor, hessian: torch.Tensor, groups: list[list[int]], damp: float) -> list[int]:
    """At every step every group is tried: the one whose loss leaves the best weights at the least damped cost goes."""
    left, order = list(range(len(groups))), []
    while left:
        trials = []
        for group in left:
            kept = [j for other in left if other != group for j in groups[other]]
            trials.append((cost(weight, twin(weight, hessian, kept, damp), damped(hessian, damp)), group))
        order.append(min(trials)[1])
        left.remove(order[-1])
    return order


def check_against_inputs(found: Sweep, weight: torch.Tensor, inputs: torch.Tensor) -> None:
    """Errors are those that the inputs show, for every snapshot."""
    total = float((inputs.double() @ weight.double().T).square().sum())
    assert float(found.errors[-1]) == pytest.approx(total, rel=1e-5)
    for count, made in found.snapshots.items():
        gone = len(found.order) - count
        told = float(found.errors[gone - 1]) if gone else 0.0
        assert told == pytest.approx(measured(weight, made, inputs), rel=1e-4, abs=1e-6 * total)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("damp", [0.0, DAMP, 0.3])
def test_one_at_a_time_is_the_greedy_search_with_explicit_inverses(size: int, damp: float) -> None:
    weight, inputs, hessian = problem(5, 12)
    groups = adjacent(12, size)
    found = sweep(weight, hessian, groups, range(13 // size), damp)
    assert found.order.tolist() == greedy_twin(weight, hessian, groups.tolist(), damp)
    for count, made in found.snapshots.items():
        kept = torch.nonzero(found.keep(count)).squeeze(1).tolist()
        assert len(kept) == count * size
        torch.testing.assert_close(made.double(), twin(weight, hessian, kept, damp), rtol=1e-4, atol=1e-5)
    check_against_inputs(found, weight, inputs)


def test_the_first_cut_is_the_best_of_all_and_later_ones_are_no_better_than_exhaustive_search() -> None:
    weight, _, hessian = problem(4, 8, seed=3)
    found = sweep(weight, hessian, adjacent(8), damp=0)
    for gone in range(1, 8):
        best = min(
            cost(weight, twin(weight, hessian, list(kept), 0), hessian) for kept in combinations(range(8), 8 - gone)
        )
        ours = float(found.errors[gone - 1])
        assert ours >= best * (1 - 1e-5)
        if gone == 1:
            assert ours == pytest.approx(best, rel=1e-5)


def test_a_single_column_costs_its_closed_form() -> None:
    """min_j sum_r W_rj^2 / [H^-1]_jj; and with uncorrelated inputs every removal is its own energy."""
    weight, _, hessian = problem(6, 10, seed=1)
    found = sweep(weight, hessian, adjacent(10), damp=0)
    scores = weight.double().square().sum(0) / torch.linalg.inv(hessian.double()).diagonal()
    assert int(found.order[0]) == int(scores.argmin())
    assert float(found.errors[0]) == pytest.approx(float(scores.min()), rel=1e-5)
    energy = torch.arange(1.0, 11).flip(0)
    alone = sweep(weight, torch.diag(energy), adjacent(10), [4], damp=0.5)
    costs = (weight.square().sum(0) * energy).double()
    sequence = (weight.square().sum(0) * (energy + 0.5 * energy.mean())).argsort()  # damping is in what is compared
    assert alone.order.tolist() == sequence.tolist()
    torch.testing.assert_close(alone.errors, costs[sequence].cumsum(0), rtol=1e-5, atol=0)
    assert torch.equal(alone.snapshots[4], weight * alone.keep(4))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_errors_are_those_of_the_inputs_whatever_the_block(data: st.DataObject) -> None:
    """Also with fewer tokens than inputs, where damping carries much of the cost, and for groups that are scattered."""
    size, count = data.draw(st.sampled_from([(1, 40), (3, 20), (8, 5)]))
    cols = size * count
    weight, inputs, hessian = problem(
        7, cols, data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0, cols // 2]))
    )
    groups = torch.tensor(data.draw(st.permutations(range(cols)))).reshape(count, size)
    block = data.draw(st.integers(1, 9))
    found = sweep(weight, hessian, groups, range(count + 1), DAMP, block)
    assert sorted(found.order.tolist()) == list(range(count))
    check_against_inputs(found, weight, inputs)
    for kept, made in found.snapshots.items():
        assert torch.equal((made != 0).any(dim=0), found.keep(kept))
        torch.testing.assert_close(made, exact(weight, hessian, found.keep(kept)), rtol=1e-3, atol=1e-4)


def test_errors_within_a_block_are_those_of_its_groups_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five of the lowest scores go at once, and none of the weights in between is ever made."""
    monkeypatch.setattr(groups_module, "SHARE", 1)
    weight, inputs, hessian = problem(6, 20, seed=5)
    found = sweep(weight, hessian, adjacent(20, 2), damp=DAMP, block=5)
    scores = []
    for group in range(10):
        kept = [j for j in range(20) if j // 2 != group]
        scores.append(cost(weight, twin(weight, hessian, kept, DAMP), damped(hessian, DAMP)))
    assert found.order.tolist()[:5] == sorted(range(10), key=scores.__getitem__)[:5]
    for gone in range(1, 11):
        kept = torch.nonzero(found.keep(10 - gone)).squeeze(1).tolist()
        told = measured(weight, twin(weight, hessian, kept, DAMP), inputs)
        assert float(found.errors[gone - 1]) == pytest.approx(told, rel=1e-4)


def test_a_block_is_cut_to_a_share_of_what_is_left_and_at_counts_asked_for() -> None:
    """16 groups or fewer: one at a time, however large the block. Of 64, 4 at a time; a count of 62 cuts the first."""
    weight, _, hessian = problem(3, 16, seed=2)
    one, large = (sweep(weight, hessian, adjacent(16), block=block) for block in (1, 99))
    assert torch.equal(one.order, large.order)
    assert torch.equal(one.errors, large.errors)
    weight, _, hessian = problem(3, 64, seed=2)
    found = sweep(weight, hessian, adjacent(64), [62], block=99)
    kept = torch.nonzero(found.keep(62)).squeeze(1).tolist()
    torch.testing.assert_close(found.snapshots[62].double(), twin(weight, hessian, kept, DAMP), rtol=1e-4, atol=1e-5)
    first = weight.double().square().sum(0) / torch.linalg.inv(damped(hessian, DAMP)).diagonal()
    assert found.order.tolist()[:2] == first.argsort().tolist()[:2]


def test_dead_inputs_go_first_at_no_cost() -> None:
    weight, inputs, _ = problem(5, 12, seed=4)
    inputs[:, [7, 2, 10]] = 0
    hessian = inputs.T @ inputs
    found = sweep(weight, hessian, adjacent(12), [12, 9], DAMP)
    assert found.order.tolist()[:3] == [2, 7, 10]
    assert found.errors.tolist()[:3] == [0, 0, 0]
    assert float(found.errors[3]) > 0
    alive = (hessian.diagonal() != 0).float()
    assert torch.equal(found.snapshots[9], weight * alive)
    assert torch.equal(found.snapshots[12], weight * alive)
    assert torch.equal(exact(weight, hessian, torch.ones(12, dtype=torch.bool)), weight * alive)
    nothing = sweep(weight, torch.zeros(12, 12), adjacent(12, 3), [1])
    assert nothing.errors.tolist() == [0, 0, 0, 0]
    assert nothing.order.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 4])
def test_the_order_of_columns_and_of_groups_does_not_matter(size: int) -> None:
    weight, _, hessian = problem(5, 48, seed=6)
    groups = adjacent(48, size)
    draw = torch.Generator().manual_seed(1)
    columns, shuffled = torch.randperm(48, generator=draw), torch.randperm(48 // size, generator=draw)
    plain = sweep(weight, hessian, groups, [48 // size // 2], block=3)
    # group g of the shuffled problem is group shuffled[g]; column k of it is columns[k]
    moved = sweep(
        weight[:, columns], hessian[columns][:, columns], columns.argsort()[groups[shuffled]], [24 // size], block=3
    )
    assert torch.equal(shuffled[moved.order], plain.order)
    torch.testing.assert_close(moved.errors, plain.errors, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        moved.snapshots[24 // size][:, columns.argsort()], plain.snapshots[24 // size], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("size", [1, 4])
def test_threads_and_cutting_out_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits with one thread and with three; the same choices however often what is gone is cut out."""
    monkeypatch.setattr(surgery, "ROWS", 7)
    weight, _, hessian = problem(20, 40, seed=8)

    def found() -> Sweep:
        return sweep(weight, hessian, adjacent(40, size), [5], block=2)

    monkeypatch.setenv("PRUNESIM_THREADS", "1")
    alone = found()
    monkeypatch.setenv("PRUNESIM_THREADS", "3")
    threaded = found()
    for a, b in (
        (alone.order, threaded.order),
        (alone.errors, threaded.errors),
        (alone.snapshots[5], threaded.snapshots[5]),
    ):
        assert torch.equal(a, b)
    for shrink in (0.0, 1.0):
        monkeypatch.setattr(surgery, "SHRINK", shrink)
        other = found()
        assert torch.equal(other.order, alone.order)
        torch.testing.assert_close(other.errors, alone.errors, rtol=1e-9, atol=1e-9)


def test_what_is_given_is_left_alone_and_a_bfloat16_weight_will_do() -> None:
    weight, _, hessian = problem(4, 8)
    before = weight.clone(), hessian.clone()
    found = sweep(weight.bfloat16(), hessian, adjacent(8), [4])
    assert found.snapshots[4].dtype == torch.float32
    sweep(weight, hessian, adjacent(8), [4])
    exact(weight, hessian, found.keep(4))
    assert torch.equal(weight, before[0])
    assert torch.equal(hessian, before[1])


def test_nearly_dependent_inputs_keep_their_digits() -> None:
    """Every input is there twice but for a thousandth: half of them cost next to nothing, and 200 steps do not lose
    what is left. In float32 the errors are off by almost a hundredth."""
    draw = torch.Generator().manual_seed(0)
    half = torch.randn(800, 100, generator=draw)
    inputs = torch.cat([half, half + 1e-3 * torch.randn(800, 100, generator=draw)], 1)
    weight, hessian = torch.randn(10, 200, generator=draw), (inputs.double().T @ inputs.double()).float()
    found = sweep(weight, hessian, adjacent(200), [150, 100, 20], damp=1e-6)
    assert float(found.errors[99] / found.errors[-1]) < 1e-5
    for count, made in found.snapshots.items():
        kept = torch.nonzero(found.keep(count)).squeeze(1).tolist()
        told = cost(weight, twin(weight, hessian, kept, 1e-6), hessian)
        assert float(found.errors[200 - count - 1]) == pytest.approx(told, rel=1e-3)
        assert cost(weight, made.double(), hessian) == pytest.approx(told, rel=1e-3)


def test_damping_is_raised_where_it_is_too_little_and_that_is_told() -> None:
    """Two inputs of correlation -1.0001, as rounding makes them: the smallest eigenvalue is -1e-4."""
    hessian = torch.tensor([[1.0, -1.0001], [-1.0001, 1.0]])
    found = sweep(torch.ones(1, 2), hessian, adjacent(2), damp=5e-5)
    assert found.damping == pytest.approx(5e-4)
    assert found.remedy == "damping 0.0005 instead of 5e-05"
    assert sweep(torch.ones(1, 2), hessian, adjacent(2), damp=0.01).remedy == ""


WEIGHT, HESSIAN = torch.ones(2, 6), torch.eye(6)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: sweep(WEIGHT, HESSIAN, [[0, 1], [2, 3, 4, 5]]), "groups of 2 and 4 inputs; all must be of one size"),
        (lambda: sweep(WEIGHT, HESSIAN, []), "groups of no inputs; all must be of one size"),
        (lambda: sweep(WEIGHT, HESSIAN, [[0, 1], [1, 2]]), "2 groups of 2 do not hold each of 6 inputs, 0 to 5, once"),
        (lambda: sweep(WEIGHT, HESSIAN, adjacent(6, 2), [4]), "4 of 3 groups cannot be kept; choose 0 to 3"),
        (lambda: sweep(WEIGHT, HESSIAN, adjacent(6), block=0), "block 0: at least one group goes at a time"),
        (lambda: sweep(WEIGHT, torch.eye(5), adjacent(6)), "a weight of 6 inputs needs a Hessian of 6 x 6, not 5 x 5"),
        (lambda: sweep(WEIGHT, HESSIAN * torch.nan, adjacent(6)), "holds numbers that are not finite"),
        (lambda: sweep(WEIGHT / 0, HESSIAN, adjacent(6)), "the weight of 2 x 6 holds numbers that are not finite"),
        (lambda: sweep(WEIGHT, torch.ones(6, 6), adjacent(6), damp=0), "is not positive definite, even damped by 0 of"),
        (lambda: sweep(WEIGHT, HESSIAN, adjacent(6), damp=-0.1), "damping -0.1 is no share of the mean diagonal"),
        (lambda: exact(WEIGHT, torch.eye(5), torch.ones(6) > 0), "a weight of 6 inputs needs a Hessian of 6 x 6"),
        (lambda: adjacent(10, 4), "groups of 4 do not divide 10 inputs; choose a divisor of 10"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(call, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_filled_in_inputs_give_what_the_best_weights_give():
    weight, _, hessian = problem(5, 12)
    hessian[3], hessian[:, 3] = 0, 0  # dead
    keep = torch.arange(12) % 3 != 0
    filled = weight[:, keep] + weight[:, ~keep] @ filling(hessian, keep, DAMP)
    expected = twin(weight, hessian, torch.nonzero(keep).squeeze(1).tolist(), DAMP)
    torch.testing.assert_close(filled.double(), expected[:, keep], rtol=1e-4, atol=1e-5)
