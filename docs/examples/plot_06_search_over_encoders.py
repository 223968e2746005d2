"""
A search over encoders
======================

The network itself can be a candidate of ``GridSearchCV``, as any other parameter. Features depend
on the image and the network alone, so each network sees each scan once, however many folds and
settings of the head are tried.
"""

from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from hybridus import make_breast_phantoms, make_hybrid_classifier

scans = make_breast_phantoms(120, image_size=64, difficulty=0.3, random_state=0)

# %%
# Two encoders, three values of C. ``weights="random"`` stands for a network that was never trained:
# a search should find out that it is worse. With ImageNet weights at hand you would write
# ``"features__encoder": ["mobilenet_v2", "vgg16", "resnet50"]``.
pipe = make_hybrid_classifier("mobilenet_v2_0.35", "svm", weights="bundled", image_size=64)
costs = [0.1, 1, 10]
grid = [
    {"features__layers": ["last", "multi"], "head__C": costs},
    {"features__encoder": ["mobilenet"], "features__weights": ["random"], "head__C": costs},
]
search = GridSearchCV(pipe, grid, cv=StratifiedGroupKFold(5))
search.fit(scans.images, scans.target, groups=scans.groups)
search.best_params_

# %%
# What each candidate reached.
import pandas as pd

found = pd.DataFrame(search.cv_results_["params"])
found["features__encoder"] = found["features__encoder"].fillna("mobilenet_v2_0.35")
found["features__layers"] = found["features__layers"].fillna("multi")
found["accuracy"] = search.cv_results_["mean_test_score"]
name = found["features__encoder"] + ", " + found["features__layers"]
table = found.assign(features=name).pivot_table("accuracy", "features", "head__C")
table.round(3)

# %%
# **The point:** 9 candidates on 5 folds are 45 fits, and each network ran once over the scans. The
# rest came from the store on disk.
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for features, row in table.iterrows():
    axis.plot(row.index, row, marker="o", label=features)
axis.set(xscale="log", xlabel="C of the SVM", ylabel="mean accuracy")
axis.legend(frameon=False, fontsize="small")
axis.spines[["top", "right"]].set_visible(False)
