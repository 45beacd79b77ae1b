"""From scenes and models to a plan: chains, chips, blocks, memory, keys. Pure, but for what it is given."""
