"""Where the student's embedding and head start: which token the strong model lets follow which.

The counts are expected ones, sums of the strong model's probabilities, and their positive pointwise
mutual information is factored (Levy and Goldberg 2014). They are statistics of text and
distributions; no weight of the strong model goes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from student_data import Answer

SMOOTHED = 0.75  # exponent of the followers' frequency
LEAST = 0.02  # of a probability to count


def embedding_and_head(
    answers: Sequence[Answer], classes: int, width: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(embed_Cd, head_Cd), both with rows of order 1 and of order `width`**-0.5."""
    before, after, weight = [], [], []
    for answer in answers:
        here = answer.input_T[-answer.places :]
        rows, columns = np.nonzero(answer.target_weights_NK > LEAST)
        before.append(here[rows])
        after.append(answer.target_classes_NK[rows, columns].astype(np.int64))
        weight.append(answer.target_weights_NK[rows, columns].astype(np.float64))
    pairs, place = np.unique(
        np.concatenate(before) * classes + np.concatenate(after), return_inverse=True
    )
    counts = np.bincount(place, np.concatenate(weight))
    row, column = pairs // classes, pairs % classes
    rows_C = np.bincount(row, counts, classes)
    columns_C = np.bincount(column, counts, classes) ** SMOOTHED
    expected = rows_C[row] * columns_C[column] / columns_C.sum()
    information = np.log(counts / expected).clip(0) * (counts / (counts + 0.5))
    matrix = torch.sparse_coo_tensor(
        np.stack([row, column]),
        torch.from_numpy(information).float(),
        (classes, classes),
        check_invariants=False,
    ).coalesce()
    torch.manual_seed(seed)
    left, strength, right = torch.svd_lowrank(matrix, q=width, niter=2)
    root = strength.sqrt()
    embed, head = left * root, right * root
    embed = embed / embed.pow(2).mean().sqrt()
    head = head / head.pow(2).mean().sqrt() * 0.3 * width**-0.5
    # A token that was never seen starts small and random instead of at zero.
    embed += 0.1 * torch.randn(embed.shape)
    head[-2:] = 0
    return embed, head
