"""Earthloom beside the systems that people use today: the same scene, the same network, each by its documented call."""

from tests.bench.peers.cases import overhead, peers

__all__ = ["overhead", "peers"]
