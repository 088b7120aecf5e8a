"""Plugins outside the worker: in a process of their own, in shared libraries, at an address."""

import os

# gRPC reads these when it is first imported: it is to write nothing on our standard error, and to
# leave forking alone, which we do only to run another program
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
