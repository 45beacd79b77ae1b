"""What analysts make of published maps: samples for interpretation, accuracy, exports, pages."""
