"""What a run leaves in storage about itself: names, markers, documents, commits. Knows nothing of pixels."""
