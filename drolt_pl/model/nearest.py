"""The nearest centroid of features, measured as the robust loss measures."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_centroid(
    features: Tensor, centroids: Tensor, counts: Tensor, distance: str = "euclidean", feature_norm: str = "none"
) -> tuple[Tensor, Tensor]:
    """The class of the nearest centroid, (B,), and the Euclidean distance to it, (B,).

    Args:
        features: (B, D).
        centroids: (C, D).
        counts: Images behind each centroid, (C,); a class with 0 has no centroid.
        distance: `euclidean`, `student_t` or `cosine`.
        feature_norm: `none`, or `l2` where features are divided by their norms.
    """
    features, centroids = features.float(), centroids.float()
    if feature_norm == "l2" or distance == "cosine":
        features = F.normalize(features, dim=1)
    if distance == "cosine":
        centroids = F.normalize(centroids, dim=1)
    distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
    smallest = distances.masked_fill(counts == 0, torch.inf).min(1)
    return smallest.indices, smallest.values
