"""Arrays in, arrays out: model cards, weights and exact tiled prediction in torch. Knows nothing of Ray or of scenes."""
