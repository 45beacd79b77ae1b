"""What is published of a scene beside its pixels: statistics, legends, a picture, STAC. Values in, bytes or dicts out."""
