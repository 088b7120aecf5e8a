"""The servers that are measured: each is started on an empty spool and ended after its run."""

from bench.peers.elemta import Elemta
from bench.peers.postfix import Postfix
from bench.peers.server import Peer, Place, Server

__all__ = ["Elemta", "Peer", "Place", "Postfix", "Server"]
