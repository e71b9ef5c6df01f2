"""Approximate nearest-neighbour search with the same results as Annoy, which Seurat uses.

Sums are accumulated in single precision and in sequence, as in the R package of Annoy. The Python
package of Annoy is compiled for the local processor and accumulates them in another order; trees of
many cells, and with them neighbours, then differ. It would also require a compiler on every
installation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 1234567890987654321
"""Default seed of an Annoy index."""
_N_STEPS = 200
"""Number of cells drawn to refine the two centres of a split."""
_N_ATTEMPTS = 3
"""Number of planes that are tried for a split."""
_BALANCED = 0.95
"""A plane is accepted at once if its larger side contains less than this share of the cells."""
_ONE_SIDED = 0.99
"""Cells are assigned to sides at random while the larger side contains more than this share."""
_IS_SPLIT = 2
"""Marks a stack entry whose node has been split and whose children are complete."""


class AnnoyNeighbors(NamedTuple):
    """Nearest cells of each cell by increasing distance, shape ``(n_cells, n_neighbors)``.

    The first is usually the cell itself.
    """

    indices: NDArray[np.intp]
    distances: NDArray[np.float32]


class _Tree(NamedTuple):
    """Cells in the order of the leaves, and one row for each node; the first node is the root."""

    order: NDArray[np.int64]  # (n_cells,)
    leaves: NDArray[np.int64]  # (n_nodes, 2); start and stop in `order`, -1 for split nodes
    normals: NDArray[np.float32]  # (n_nodes, n_features)
    offsets: NDArray[np.float32]  # (n_nodes,)
    children: NDArray[np.int64]  # (n_nodes, 2); a node, or -1 - cell
    ranks: NDArray[np.int64]  # (n_nodes,); order in which the nodes were completed


def annoy_neighbors(points: NDArray[np.floating], n_neighbors: int, *, n_trees: int = 50) -> AnnoyNeighbors:
    """Find the nearest cells of each cell as Annoy does, with Euclidean distance and default seed.

    A forest of random hyperplane trees is built. Each cell is compared with the
    ``n_trees * n_neighbors`` cells (some of them counted repeatedly) in the leaves nearest to it.
    The search is approximate and depends on the order of the cells.

    Parameters
    ----------
    points
        Finite positions of at least two cells, shape ``(n_cells, n_features)``.
    n_neighbors
        Number of neighbours of a cell, including the cell itself; at most ``n_cells``.
    n_trees
        Number of trees of the forest; Seurat's default is 50.

    References
    ----------
    Bernhardsson, Annoy: approximate nearest neighbors in C++/Python (2013-2023), version 1.17.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    random_state = np.array([_SEED, 362436362436362436, 1066149217761810, 123456123456123456], dtype=np.uint64)
    forest = [_grow_tree(points, random_state) for _ in range(n_trees)]
    roots = np.cumsum([0, *(len(tree.ranks) for tree in forest[:-1])], dtype=np.int64)
    for i, (tree, root) in enumerate(zip(forest, roots, strict=True)):
        tree.children[tree.children >= 0] += root
        tree.leaves[tree.leaves >= 0] += i * len(points)
        tree.ranks[:] += len(points) + root  # the rank of a single cell is its row number
    return AnnoyNeighbors(*_search(points, n_neighbors, roots, *map(np.concatenate, zip(*forest, strict=True))))


def _grow_tree(points: NDArray[np.float32], random_state: NDArray[np.uint64]) -> _Tree:
    n_cells, n_features = points.shape
    n_rows = 2 * n_cells  # an upper bound; unused rows take no memory
    order = np.arange(n_cells, dtype=np.int64)
    nodes = (
        np.empty((n_rows, 2), dtype=np.int64),
        np.empty((n_rows, n_features), dtype=np.float32),
        np.empty(n_rows, dtype=np.float32),
        np.empty((n_rows, 2), dtype=np.int64),
        np.empty(n_rows, dtype=np.int64),
    )
    n_nodes = _grow(points, random_state, order, *nodes)
    return _Tree(order, *(part[:n_nodes].copy() for part in nodes))


@njit(cache=True)
def _draw(state: NDArray[np.uint64]) -> np.uint64:
    """Draw the next 64-bit number of Marsaglia's KISS generator.

    It combines a linear congruential generator, a shift register and multiplication with carry.
    """
    x, y, z, carry = state
    z = z * np.uint64(6906969069) + np.uint64(1234567)
    y ^= y << np.uint64(13)
    y ^= y >> np.uint64(17)
    y ^= y << np.uint64(43)
    shifted = (x << np.uint64(58)) + carry
    carry = x >> np.uint64(6)
    x += shifted
    if x < shifted:
        carry += np.uint64(1)
    state[0], state[1], state[2], state[3] = x, y, z, carry
    return x + y + z


@njit(cache=True)
def _draw_below(state: NDArray[np.uint64], n: int) -> np.int64:
    return np.int64(_draw(state) % np.uint64(n))


@njit(cache=True)
def _squared_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for i in range(len(first)):
        difference = first[i] - second[i]
        total += difference * difference
    return total


@njit(cache=True)
def _dot(first: NDArray[np.float32], second: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for i in range(len(first)):
        total += first[i] * second[i]
    return total


@njit(cache=True)
def _find_plane(
    points: NDArray[np.float32], members: NDArray[np.int64], state: NDArray[np.uint64], normal: NDArray[np.float32]
) -> np.float32:
    """Write the normal of the plane between two centres to ``normal``; return its offset."""
    i = _draw_below(state, len(members))
    j = _draw_below(state, len(members) - 1)
    if j >= i:
        j += 1
    first, second = points[members[i]].copy(), points[members[j]].copy()
    n_first, n_second = np.float32(1), np.float32(1)
    one = np.float32(1)
    for _ in range(_N_STEPS):
        point = points[members[_draw_below(state, len(members))]]
        from_first = n_first * _squared_distance(first, point)
        from_second = n_second * _squared_distance(second, point)
        if from_first < from_second:
            for d in range(len(point)):
                first[d] = (first[d] * n_first + point[d]) / (n_first + one)
            n_first += one
        elif from_second < from_first:
            for d in range(len(point)):
                second[d] = (second[d] * n_second + point[d]) / (n_second + one)
            n_second += one
    for d in range(len(normal)):
        normal[d] = first[d] - second[d]
    length = np.sqrt(_dot(normal, normal))
    offset = np.float32(0)
    for d in range(len(normal)):
        if length > 0:
            normal[d] /= length
        offset += -normal[d] * (first[d] + second[d]) / np.float32(2)
    return offset


@njit(cache=True)
def _larger_share(n_left: int, n: int) -> np.float32:
    share = np.float32(n_left / (n + 1e-9))
    return max(share, np.float32(1) - share)


@njit(cache=True)
def _split(
    points: NDArray[np.float32], members: NDArray[np.int64], state: NDArray[np.uint64], normal: NDArray[np.float32]
) -> tuple[np.float32, int]:
    """Sort ``members`` by their side of a fitted plane.

    Returns the offset of the plane and the number of cells on its first side.
    """
    n = len(members)
    sides = np.empty(n, dtype=np.bool_)
    offset = np.float32(0)
    n_left = 0
    for _ in range(_N_ATTEMPTS):
        offset = _find_plane(points, members, state, normal)
        n_left = 0
        for i in range(n):
            margin = offset + _dot(normal, points[members[i]])
            sides[i] = margin > 0 if margin != 0 else _draw(state) & np.uint64(1)
            n_left += not sides[i]
        if _larger_share(n_left, n) < _BALANCED:
            break
    while _larger_share(n_left, n) > _ONE_SIDED:
        normal[:] = 0
        n_left = 0
        for i in range(n):
            sides[i] = _draw(state) & np.uint64(1)
            n_left += not sides[i]
    before = members.copy()
    left, right = 0, n_left
    for i in range(n):
        if sides[i]:
            members[right] = before[i]
            right += 1
        else:
            members[left] = before[i]
            left += 1
    return offset, n_left


@njit(cache=True)
def _set_row(row: NDArray[np.int64], start: int, stop: int, node: int, side: int) -> None:
    row[0], row[1], row[2], row[3] = start, stop, node, side


@njit(cache=True)
def _grow(
    points: NDArray[np.float32],
    state: NDArray[np.uint64],
    order: NDArray[np.int64],
    leaves: NDArray[np.int64],
    normals: NDArray[np.float32],
    offsets: NDArray[np.float32],
    children: NDArray[np.int64],
    ranks: NDArray[np.int64],
) -> int:
    """Split the cells recursively and return the number of nodes.

    As in Annoy, a leaf holds at most as many cells as fit into the memory of a split node.
    """
    n_cells, n_features = points.shape
    n_nodes, n_finished, n_todo = 0, 0, 1
    todo = np.empty((2 * n_cells + 2, 4), dtype=np.int64)  # start, stop, parent, side; or a split node
    _set_row(todo[0], 0, n_cells, -1, 0)
    while n_todo > 0:
        n_todo -= 1
        start, stop, parent, side = todo[n_todo, 0], todo[n_todo, 1], todo[n_todo, 2], todo[n_todo, 3]
        if side == _IS_SPLIT:
            ranks[parent] = n_finished
            n_finished += 1
            continue
        if stop - start == 1 and parent >= 0:
            children[parent, side] = -1 - order[start]
            continue
        node = n_nodes
        n_nodes += 1
        if parent >= 0:
            children[parent, side] = node
        if stop - start <= n_features + 2:
            leaves[node, 0], leaves[node, 1] = start, stop
            ranks[node] = n_finished
            n_finished += 1
            continue
        leaves[node, 0] = leaves[node, 1] = -1
        offsets[node], n_left = _split(points, order[start:stop], state, normals[node])
        middle = start + n_left
        first_child = n_todo + (2 if n_left <= stop - middle else 1)  # the smaller child is processed first
        _set_row(todo[n_todo], start, stop, node, _IS_SPLIT)
        _set_row(todo[first_child], start, middle, node, 0)
        _set_row(todo[2 * n_todo + 3 - first_child], middle, stop, node, 1)
        n_todo += 3
    return n_nodes


@njit(cache=True)
def _comes_first(margin: np.float32, rank: np.int64, other_margin: np.float32, other_rank: np.int64) -> np.bool_:
    return margin > other_margin or (margin == other_margin and rank > other_rank)


@njit(cache=True)
def _push(
    margins: NDArray[np.float32],
    ranks: NDArray[np.int64],
    nodes: NDArray[np.int64],
    size: int,
    margin: np.float32,
    rank: np.int64,
    node: np.int64,
) -> None:
    """Insert a node into a heap of ``size`` nodes.

    The first node of the heap is the one with the largest margin: the smallest distance of the cell
    from the planes above the node, negative where the cell lies on the other side of a plane.
    """
    i = size
    while i > 0:
        above = (i - 1) // 2
        if not _comes_first(margin, rank, margins[above], ranks[above]):
            break
        margins[i], ranks[i], nodes[i] = margins[above], ranks[above], nodes[above]
        i = above
    margins[i], ranks[i], nodes[i] = margin, rank, node


@njit(cache=True)
def _pop(margins: NDArray[np.float32], ranks: NDArray[np.int64], nodes: NDArray[np.int64], size: int) -> None:
    """Remove the first node from a heap of ``size`` nodes."""
    last = size - 1
    margin, rank, node = margins[last], ranks[last], nodes[last]
    i = 0
    while 2 * i + 1 < last:
        below = 2 * i + 1
        if below + 1 < last and _comes_first(margins[below + 1], ranks[below + 1], margins[below], ranks[below]):
            below += 1
        if not _comes_first(margins[below], ranks[below], margin, rank):
            break
        margins[i], ranks[i], nodes[i] = margins[below], ranks[below], nodes[below]
        i = below
    margins[i], ranks[i], nodes[i] = margin, rank, node


@njit(cache=True)
def _insert(
    distances: NDArray[np.float32], indices: NDArray[np.int64], n_kept: int, distance: np.float32, index: np.int64
) -> None:
    """Insert a cell into the sorted nearest cells; ties in distance are ordered by row number."""
    i = n_kept if n_kept < len(indices) else n_kept - 1
    if i < n_kept and not (distance < distances[i] or (distance == distances[i] and index < indices[i])):
        return
    while i > 0 and (distance < distances[i - 1] or (distance == distances[i - 1] and index < indices[i - 1])):
        distances[i], indices[i] = distances[i - 1], indices[i - 1]
        i -= 1
    distances[i], indices[i] = distance, index


@njit(cache=True)
def _search(
    points: NDArray[np.float32],
    n_neighbors: int,
    roots: NDArray[np.int64],
    order: NDArray[np.int64],
    leaves: NDArray[np.int64],
    normals: NDArray[np.float32],
    offsets: NDArray[np.float32],
    children: NDArray[np.int64],
    node_ranks: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    n_cells = len(points)
    n_wanted = n_neighbors * len(roots)
    indices = np.empty((n_cells, n_neighbors), dtype=np.int64)
    distances = np.empty((n_cells, n_neighbors), dtype=np.float32)
    n_heap = 2 * len(offsets) + len(roots)
    margins, ranks, nodes = np.empty(n_heap, np.float32), np.empty(n_heap, np.int64), np.empty(n_heap, np.int64)
    seen_by = np.full(n_cells, -1)
    for cell in range(n_cells):
        size, n_met, n_found = 0, 0, 0
        for root in roots:
            _push(margins, ranks, nodes, size, np.float32(np.inf), node_ranks[root], root)
            size += 1
        while n_met < n_wanted and size > 0:
            margin, node = margins[0], nodes[0]
            _pop(margins, ranks, nodes, size)
            size -= 1
            if node >= 0 and leaves[node, 0] < 0:
                own = offsets[node] + _dot(normals[node], points[cell])
                for side in range(2):
                    child = np.int64(children[node, side])
                    rank = node_ranks[child] if child >= 0 else np.int64(-1 - child)
                    _push(margins, ranks, nodes, size, min(margin, own if side else -own), rank, child)
                    size += 1
                continue
            start, stop = 0, 1
            if node >= 0:
                start, stop = leaves[node, 0], leaves[node, 1]
            n_met += stop - start
            for i in range(start, stop):
                other = order[i] if node >= 0 else -1 - node
                if seen_by[other] != cell:
                    seen_by[other] = cell
                    distance = _squared_distance(points[cell], points[other])
                    _insert(distances[cell], indices[cell], min(n_found, n_neighbors), distance, other)
                    n_found += 1
    return indices, np.sqrt(distances)
