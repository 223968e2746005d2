"""
Do probabilities mean what they say, and whom to refer
======================================================

A probability of 0.8 should be right in eight of ten cases. Where it is not, it is no help to a
reader. And a model that knows when it is unsure can hand those scans to a person.
"""

from hybridus import compare, make_breast_phantoms, make_hybrid_classifier

# sphinx_gallery_thumbnail_number = 2
scans = make_breast_phantoms(180, image_size=64, difficulty=0.3, random_state=0)
settings = {"weights": "bundled", "image_size": 64}
models = {
    "logistic regression": make_hybrid_classifier("mobilenet_v2_0.35", "logreg", **settings),
    "MLP": make_hybrid_classifier("mobilenet_v2_0.35", "mlp", random_state=0, **settings),
    "SVM, calibrated": make_hybrid_classifier(
        "mobilenet_v2_0.35", "svm", probability=True, **settings
    ),
}
study = compare(models, scans.images, scans.target, groups=scans.groups)

# %%
# **Calibration.** ``ece`` is the expected calibration error, 0 at best.
study.calibration.round(3)

# %%
# Points on the line: said and seen agree. Below it the model promises too much.
from hybridus import ReliabilityDisplay

ReliabilityDisplay.from_comparison(study, positive=1)

# %%
# **Referral.** From left to right more and more of the least sure scans go to a person; the curve
# is the accuracy on the rest.
from hybridus import ReferralDisplay

ReferralDisplay.from_comparison(study)

# %%
# **The point:** two models with the same accuracy can differ in how well they know what they do not
# know. If scans can be referred, compare the curves and not only their left ends.
study.referral.groupby("model").nth([0, 4]).round(3)
