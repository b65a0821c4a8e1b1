"""The protocol with one of its parts taken out, each in a copy of the tree: the tests have to turn red for every one."""
