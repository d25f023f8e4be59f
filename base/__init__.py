"""The frozen base: a text once ever → its vectors (``features.compute_features``, ``features.Features``)."""
