"""What a scene gets beside its pixels: statistics, legends, a picture, STAC. Values in, bytes or dicts out."""
