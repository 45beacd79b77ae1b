"""The cube of a product over an area: which results it holds, how it is written, how it is read."""
