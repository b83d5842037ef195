"""Pure functions on arrays: pooling, projections, costs, matching, solves."""
