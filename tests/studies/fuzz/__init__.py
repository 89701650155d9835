"""Coverage-guided fuzzing of everything that decodes bytes of a peer, a path or a file."""
