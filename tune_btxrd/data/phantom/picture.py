"""Picture: one case as a radiograph: pose, body, tumour, film."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from tune_btxrd.data.phantom.body import REGIONS, Pose, lay_out
from tune_btxrd.data.phantom.cases import Case
from tune_btxrd.data.phantom.film import LOOKS, Film, add_grain, add_marker, match_tones
from tune_btxrd.data.phantom.lesions import DRAW
from tune_btxrd.data.phantom.raster import Canvas

_DRAWN_AT = 720  # pixels of the long side on which bodies are drawn; larger images are enlarged, then grained and marked


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One drawn image; `outlines` of its tumour as (P, 2) pixel positions, empty for a Normal."""

    image: Image.Image
    outlines: tuple[np.ndarray, ...]
    quality: int


def draw_picture(case: Case, *, seed: int) -> Picture:
    """The radiograph of a case: depends on the case and the seed alone, not on which others are drawn or when.

    The same body is exposed with and without its tumour, and the tones of the second are given to the first: brightness
    and contrast of the whole image say nothing about the class.
    """
    patient_rng = np.random.default_rng([seed, 1, case.patient.number])
    pose_rng, body_rng, film_rng, tumour_rng, grain_rng = np.random.default_rng([seed, 2, case.number]).spawn(5)
    shrink = min(1.0, _DRAWN_AT / max(case.width, case.height))
    canvas = Canvas(height=max(1, round(case.height * shrink)), width=max(1, round(case.width * shrink)))
    pose, bend, side = _pose(case, patient_rng=patient_rng, rng=pose_rng)
    anatomy = pose.apply(REGIONS[case.patient.region][case.view == "lateral"](bend))
    body = lay_out(canvas, anatomy, focus=case.patient.site, young=case.patient.age < 16, rng=body_rng)
    film = Film.draw(LOOKS[case.patient.center], canvas, film_rng)
    grey, outlines = film.expose(body.soft, body.bone, scale=canvas.scale), []
    if case.patient.tumour:
        outlines = DRAW[case.patient.tumour](body, tumour_rng, side)
        grey = match_tones(film.expose(body.soft, body.bone, scale=canvas.scale), grey)
    if shrink < 1:
        grey = np.asarray(Image.fromarray(grey).resize((case.width, case.height), Image.Resampling.BICUBIC))
    grey = add_grain(grey, film, grain_rng)
    image = Image.fromarray((np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8))
    add_marker(image, film, side=case.patient.side, rng=film_rng)
    if film.inverted:
        image = ImageOps.invert(image)
    full = Canvas(height=case.height, width=case.width)
    inside = tuple(np.clip(full.to_pixels(outline), 0, (case.width - 1, case.height - 1)) for outline in outlines)
    return Picture(image=image.convert(case.mode), outlines=inside, quality=film.quality)


def _pose(case: Case, *, patient_rng: np.random.Generator, rng: np.random.Generator) -> tuple[Pose, float, int]:
    """Pose, bend in degrees and the side on which a tumour grows; build, bend and side belong to the patient."""
    scale, squeeze = patient_rng.uniform(1.15, 1.45), patient_rng.uniform(0.9, 1.1)
    bend = patient_rng.uniform(0.0, 40.0)
    side = int(patient_rng.choice([-1, 1]))
    landscape = case.width > case.height
    pose = Pose(
        focus=case.patient.site,
        shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.1, 0.1))),
        degrees=float(rng.normal(0, 7) + (90 if landscape else 0)),
        scale=float(scale * rng.uniform(0.95, 1.05)),
        squeeze=float(squeeze * (0.85 if case.view == "oblique" else 1.0)),
        mirrored=case.patient.side == "L",
    )
    return pose, bend, side
