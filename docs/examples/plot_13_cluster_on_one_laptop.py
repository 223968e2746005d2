"""
A cluster on one laptop
=======================

Encoding images is most of the work, and each image can be encoded anywhere. joblib says where: on
this machine's processes with ``n_jobs=2``, or on the workers of a Dask cluster, which may be ten
machines, or, as here, your laptop. The code of the model does not change.
"""

# %%
# Two workers, here as threads of this process. ``LocalCluster(n_workers=2)`` starts processes
# instead, and ``Client("scheduler:8786")`` joins a real cluster. Nothing is sent to anywhere else.
from distributed import Client, LocalCluster

# sphinx_gallery_thumbnail_number = 1
cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
client = Client(cluster)

# %%
# The same extractor, once alone and once on the cluster. ``cache=False`` keeps nothing, so that
# both have to work.
import time

import joblib
import numpy as np

from hybridus import DeepFeatureExtractor, make_breast_phantoms

scans = make_breast_phantoms(96, image_size=64, difficulty=0.3, random_state=0)
extractor = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", image_size=64, cache=False)
alone = extractor.fit_transform(scans.images)

client.get_task_stream()  # begins to note who does what
begun = time.time()
with joblib.parallel_config("dask"):
    spread = extractor.fit_transform(scans.images)
print("the same rows:", np.array_equal(alone, spread))

# %%
# Who did what? Each bar is a chunk of images.
import matplotlib.pyplot as plt

tasks = client.get_task_stream(start=begun)
workers = sorted({task["worker"] for task in tasks})
figure, axis = plt.subplots(figsize=(6.4, 1.8), layout="constrained")
for task in tasks:
    for step in task["startstops"]:
        if step["action"] == "compute":
            axis.barh(
                workers.index(task["worker"]),
                step["stop"] - step["start"],
                left=step["start"] - begun,
                height=0.6,
                color="#2f6db0",
                edgecolor="white",
            )
axis.set_yticks(range(len(workers)), [f"worker {i + 1}" for i in range(len(workers))])
axis.set(xlabel="seconds since the call", xlim=(0, None), ylim=(-0.6, len(workers) - 0.4))
axis.spines[["top", "right"]].set_visible(False)

# %%
# A comparison runs its folds there in the same way.
from hybridus import compare, make_hybrid_classifier

models = {
    head: make_hybrid_classifier("mobilenet_v2_0.35", head, weights="bundled", image_size=64)
    for head in ("svm", "logreg")
}
with joblib.parallel_config("dask"):
    study = compare(models, scans.images, scans.target, groups=scans.groups)
study.table[["accuracy_mean", "accuracy_std"]].round(3)

# %%
client.close()
cluster.close()

# %%
# **The point:** try on the laptop what is to run on the cluster: one line changes. On a cluster,
# give paths that all workers can read; arrays are sent to them.
