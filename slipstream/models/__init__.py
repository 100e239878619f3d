"""The models, one file each.

Fitting may need SciPy, scikit-learn or torch. Loading and scoring need NumPy alone.
"""
