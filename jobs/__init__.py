"""What a user runs: the command line, configuration, planning, publishing. The only place that wires the other layers."""
