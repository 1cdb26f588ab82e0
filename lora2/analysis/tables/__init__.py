"""Tables of ours beside the paper's."""
