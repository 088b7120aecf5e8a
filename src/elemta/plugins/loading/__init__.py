"""Reading plugins, putting them in order, and keeping those that run."""
