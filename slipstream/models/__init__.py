"""The models, one file each. Fitting may need SciPy, scikit-learn or torch; loading and scoring
need NumPy alone.
"""
