"""The phantom: a dataset of radiograph-like images that the project draws itself, laid out exactly like BTXRD.

raster    curves, filled shapes, noise: coordinates that do not know the image size
bones     what a body region is made of; leg, trunk, arm: the six regions
cases     patients, views and the released table
body      a posed region -> soft tissue and bone; lesions: tumours in it
film      what each center's equipment makes of it; picture: one case -> one image
folder    all of it -> dataset.xlsx, images/, Annotations/

Or of heads with a lesion, laid out like BraTS: `heads` draws one patient, `brats` writes the folders.
"""

from tune_btxrd.data.phantom.folder import make_phantom
from tune_btxrd.data.phantom.spec import PhantomKind, PhantomSpec, phantom_spec

__all__ = ["PhantomKind", "PhantomSpec", "make_phantom", "phantom_spec"]
