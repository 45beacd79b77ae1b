"""How a run went: telemetry and traces."""
