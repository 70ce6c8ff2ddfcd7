"""What every design and every pruning method must obey, as plain functions: the command line, pytest and strangers run
them."""
