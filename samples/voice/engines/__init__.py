"""The models, behind interfaces that know nothing of them."""
