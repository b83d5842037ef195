"""The one place that imports jaxopt.

jaxopt warns at import that it is no longer maintained, which would end any
program that turns warnings into errors. That message alone is silenced.
"""

import warnings

with warnings.catch_warnings():
  warnings.filterwarnings(
    'ignore', 'JAXopt is no longer maintained', DeprecationWarning
  )
  from jaxopt import ProjectedGradient
  from jaxopt.implicit_diff import custom_root

__all__ = ['ProjectedGradient', 'custom_root']
