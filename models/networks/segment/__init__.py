"""Segmentation networks of our own. Each gives logits or probabilities (N, K, H, W); none knows of cards or files."""
