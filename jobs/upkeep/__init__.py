"""Looking after an OUT: status, verify, gc, doctor."""
