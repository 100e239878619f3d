"""Counts of what recommendations led to, from the lake: views, clicks, carts, purchases, money.

`counter` finds the periods with new rows and counts them again, whole. `credit` says which place of
which slate led to a response. `outcomes_repository` keeps sums and credits in SQL, and `outcomes`
reports them; `list_sums_repository` has lists by answering step. `click_sums` sums periods over
visitors.
"""
