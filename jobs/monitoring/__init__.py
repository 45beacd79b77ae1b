"""An area over time: scenes on one grid become a cube, composites, change, alerts and series."""
