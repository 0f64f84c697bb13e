"""What people touch: the headrace command and its demo; holds no knowledge of any connector."""
