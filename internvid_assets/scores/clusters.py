"""Clusters of unit vectors, and which members of a cluster repeat another.

Legend: N vectors, D width, K clusters.
"""

from __future__ import annotations

import numpy as np

_CHUNK = 4096


def spherical_kmeans(vectors_ND: np.ndarray, num_clusters: int, seed: int = 0, rounds: int = 20) -> np.ndarray:
    """Unit centres, float32 [K, D], of unit vectors: Lloyd's rounds by cosine, from a k-means++ draw.

    K is at most the number of vectors. The same vectors and seed give the same centres.

    Source: Arthur and Vassilvitskii, k-means++, 2007; Dhillon and Modha, Concept Decompositions, 2001.
    """
    rng = np.random.default_rng(seed)
    count = min(num_clusters, len(vectors_ND))
    centres_KD = vectors_ND[rng.integers(len(vectors_ND), size=1)]
    distances_N = 1 - vectors_ND @ centres_KD[0]
    while len(centres_KD) < count:
        weights = np.maximum(distances_N.astype(np.float64), 0)
        chosen = (
            rng.choice(len(vectors_ND), p=weights / weights.sum()) if weights.sum() else rng.integers(len(vectors_ND))
        )
        centres_KD = np.concatenate([centres_KD, vectors_ND[chosen : chosen + 1]])
        distances_N = np.minimum(distances_N, 1 - vectors_ND @ centres_KD[-1])
    for _ in range(rounds):
        labels_N = nearest(vectors_ND, centres_KD)
        sums_KD = np.zeros_like(centres_KD)
        np.add.at(sums_KD, labels_N, vectors_ND)
        norms_K = np.linalg.norm(sums_KD, axis=1, keepdims=True)
        moved_KD = np.where(norms_K > 0, sums_KD / np.maximum(norms_K, 1e-12), centres_KD)
        if np.array_equal(moved_KD, centres_KD):
            break
        centres_KD = moved_KD
    return centres_KD


def nearest(vectors_ND: np.ndarray, centres_KD: np.ndarray) -> np.ndarray:
    """The centre of the greatest cosine for each vector, int64 [N]."""
    parts = [np.argmax(vectors_ND[at : at + _CHUNK] @ centres_KD.T, axis=1) for at in range(0, len(vectors_ND), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def repeats(vectors_ND: np.ndarray, centre_D: np.ndarray, min_cosine: float) -> list[tuple[int, int, float]]:
    """(member, the one it repeats, cosine) of one cluster: of members that are alike, the farther from the centre stays.

    Source: Abbas et al., SemDeDup, arXiv 2303.09540, §3.
    Differs: a member repeats only one that stays, so that a chain of neighbours does not vanish but for its end.
    """
    order = np.argsort(vectors_ND @ centre_D, kind="stable")
    kept: list[int] = []
    found = []
    for place in order:
        cosines = vectors_ND[kept] @ vectors_ND[place] if kept else np.zeros(0, np.float32)
        best = int(np.argmax(cosines)) if kept else -1
        if kept and cosines[best] >= min_cosine:
            found.append((int(place), kept[best], float(cosines[best])))
        else:
            kept.append(int(place))
    return found
