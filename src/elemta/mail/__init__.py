"""The nouns of mail, without any I/O."""
