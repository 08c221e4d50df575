"""The magnitude floor: the values that survive NF4, and how masked parameters come to them."""
