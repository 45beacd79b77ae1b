"""Training of the small models that come with Earthloom. Knows nothing of Ray, scenes or URLs."""
