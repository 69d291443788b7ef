"""Lattice reduction, for attacks that need short vectors: slow, exact and small."""

from __future__ import annotations

from fractions import Fraction

Vector = list[int]


def reduced(basis: list[Vector]) -> list[Vector]:
    """A reduced basis (Lenstra, Lenstra & Lovász 1982, with factor 3/4) of independent rows."""
    rows = [row[:] for row in basis]
    mu, norms = _orthogonal(rows)
    k = 1
    while k < len(rows):
        for j in range(k - 1, -1, -1):
            if times := round(mu[k][j]):
                rows[k] = [a - times * b for a, b in zip(rows[k], rows[j], strict=True)]
                for i in range(j):
                    mu[k][i] -= times * mu[j][i]
                mu[k][j] -= times
        if norms[k] >= (Fraction(3, 4) - mu[k][k - 1] ** 2) * norms[k - 1]:
            k += 1
        else:
            _swap(rows, mu, norms, k)
            k = max(k - 1, 1)
    return rows


def _swap(rows: list[Vector], mu: list[list[Fraction]], norms: list[Fraction], k: int) -> None:
    """Exchange rows k - 1 and k, and bring the orthogonal form up to date."""
    rows[k], rows[k - 1] = rows[k - 1], rows[k]
    factor = mu[k][k - 1]
    norm = norms[k] + factor**2 * norms[k - 1]
    mu[k][k - 1] = factor * norms[k - 1] / norm
    norms[k], norms[k - 1] = norms[k - 1] * norms[k] / norm, norm
    mu[k][: k - 1], mu[k - 1][: k - 1] = mu[k - 1][: k - 1], mu[k][: k - 1]
    for i in range(k + 1, len(rows)):
        old = mu[i][k]
        mu[i][k] = mu[i][k - 1] - factor * old
        mu[i][k - 1] = old + mu[k][k - 1] * mu[i][k]


def _orthogonal(rows: list[Vector]) -> tuple[list[list[Fraction]], list[Fraction]]:
    """Gram-Schmidt coefficients and squared norms."""
    count = len(rows)
    mu = [[Fraction(0)] * count for _ in rows]
    norms: list[Fraction] = []
    stars: list[list[Fraction]] = []
    for i, row in enumerate(rows):
        star = [Fraction(value) for value in row]
        for j in range(i):
            dot = sum(a * b for a, b in zip(row, stars[j], strict=True))
            mu[i][j] = dot / norms[j]
            star = [a - mu[i][j] * b for a, b in zip(star, stars[j], strict=True)]
        stars.append(star)
        norms.append(Fraction(sum(value * value for value in star)))
    return mu, norms
