"""The same as a loop: and it is gated, served, watched and renewed."""

from sklearn.ensemble import RandomForestClassifier

import mainspring as ms

loop = ms.Loop(
    "seed",
    data=ms.csv("data.csv"),
    target="target",
    model=RandomForestClassifier(n_estimators=100, random_state=42),
    split=ms.Split(test=0.2, stratify=False, seed=42),
    gate=ms.Gate("accuracy"),
)
