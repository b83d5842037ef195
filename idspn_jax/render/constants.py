"""The numbers of a CLEVR picture: its scene, and what was fitted to pictures.

Lengths are in scene units (metres), z points up, the ground is z = 0. Colours
are linear RGB. Everything but `Look` is a fact of the scene; `Look` holds what
stands for effects that the ray caster does not trace, fitted to real pictures
of the training split.
"""

from typing import NamedTuple

import numpy as np

# The camera looks at the origin; a lens of 35 mm before a sensor of 32 mm.
WIDTH, HEIGHT = 480, 320
FOCAL_PIXELS = WIDTH * 35.0 / 32.0
CAMERA = (7.481132, -6.50764, 5.343665)
CAMERA_JITTER = 0.5

# Square lamps that face the origin, in the order key, fill, back.
LAMP_NAMES = ('Lamp_Key', 'Lamp_Fill', 'Lamp_Back')
LAMPS = (
  (6.44671, -2.905175, 4.258398),
  (-4.671124, -4.013597, 3.011225),
  (-1.168501, 2.646024, 5.815737),
)
LAMP_JITTER = 1.0
LAMP_SIDES = (0.5, 0.5, 1.0)
LAMP_WATTS = (78.5398178, 23.56194496, 39.2699089)
LAMP_COLORS = (
  (1.0, 0.93230921, 0.81666356),
  (0.76166618, 0.81771964, 1.0),
  (1.0, 1.0, 1.0),
)
# A lamp's radiance times its area, as seen from straight ahead (W / sr).
LAMP_INTENSITIES = tuple(
  tuple(watts / np.pi * c for c in color)
  for watts, color in zip(LAMP_WATTS, LAMP_COLORS, strict=True)
)
_SUN = np.array([0.4516, -0.2567, 1.0])
SUN_DIRECTION = tuple((_SUN / np.linalg.norm(_SUN)).tolist())
SUN_IRRADIANCE = 0.45
GROUND_ALBEDO = 0.8

# The cardinal directions on the ground, of the camera without jitter.
_FORWARD = -np.array(CAMERA[:2]) / np.hypot(*CAMERA[:2])
BEHIND = (float(_FORWARD[0]), float(_FORWARD[1]), 0.0)
RIGHT = (float(_FORWARD[1]), float(-_FORWARD[0]), 0.0)

# By the class numbers of `data.clevr_features`.
RADII = (0.7, 0.35)
COLORS = tuple(
  tuple(c / 255 for c in color)
  for color in (
    (41, 208, 208),
    (42, 75, 215),
    (255, 238, 51),
    (129, 38, 192),
    (173, 35, 35),
    (29, 105, 20),
    (87, 87, 87),
    (129, 74, 25),
  )
)
SPHERE, CUBE, CYLINDER = 0, 1, 2
RUBBER, METAL = 0, 1
# Radius of the rounded edges, in radii of the object.
CUBE_BEVEL = 0.2
CYLINDER_BEVEL = 0.06
REFRACTIVE_INDEX = 1.45
MAX_OBJECTS = 10


class Look(NamedTuple):
  """What was fitted to real pictures; see `shading` for what each scales."""

  rubber_diffuse: float = 0.91154
  rubber_gloss: float = 0.33668
  rubber_alpha: float = 0.33939
  rubber_ground: float = 0.22433
  sharp: float = 0.6036
  sharp_fresnel: float = 0.07824
  sharp_alpha: float = 0.02511
  rough: float = 0.31266
  rough_fresnel: float = -0.0015
  rough_alpha: float = 0.22534
  highlight: float = 0.02416
  sun_softness: float = 0.13462
  far_0: float = 0.01327
  far_s: float = 0.01538
  far_ss: float = 0.00559
  far_sss: float = -0.00323
  far_l: float = -0.00434
  far_ls: float = -0.00166
  far_ll: float = -0.00477
  backdrop: float = 0.09397
  backdrop_slope: float = 1.00721
  backdrop_width: float = 0.06561
  ground_bounce: float = 1.04362
  object_bounce: float = 0.80273
  metal_radiosity: float = 0.87674
  metal_bounce: float = 0.7434
  object_fill: float = 0.02118
  taper: float = 0.15143
