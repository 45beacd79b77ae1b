"""Areas per class: over time, in polygons, of scenes."""
