"""Pictures of CLEVR scenes: a sampler of scenes and an analytic ray caster."""
