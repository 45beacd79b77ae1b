"""What runs and tests the project: the demo, a local S3 server, cluster helpers. Nothing here is imported by a run."""
