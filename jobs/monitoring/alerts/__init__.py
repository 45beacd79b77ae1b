"""Alerts: polygons of a change with a life, as a pure function of a cube's steps and a rule."""
