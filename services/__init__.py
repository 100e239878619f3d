"""The five deployed services. `python -m services NAME` starts one of them."""
