"""Networks that make a better image of an image: (N, C, H, W) to (N, K, scale*H, scale*W). None knows of cards or files."""
