"""From finished blocks to a committed scene, and from committed scenes to catalogues."""
