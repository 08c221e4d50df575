"""How many parameters an update of a given size can move to another code at most: `mansu tradeoff`."""
