"""The protocol of plugins outside the worker, and what protoc makes of it."""
