"""Which departing flights will arrive more than 15 minutes late? Declared once; mainspring does the rest."""

from features import features
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import mainspring as ms

flights = ms.sql("env:FLIGHTS_DB", "select * from flights", cursor="id")
weather = ms.sql("env:FLIGHTS_DB", "select origin, observed, wind_speed, precip, visib from weather", cursor="observed")

loop = ms.Loop(
    "late-flights",
    # each flight with the weather at its airport as it was last observed by then
    data=ms.join(flights, weather, on="origin", as_of="scheduled", right_time="observed", within="3h"),
    target="late",
    key="id",
    time="scheduled",
    ignore=[
        "dep_time",
        "arr_time",
        "arr_delay",
        "air_time",
        "tailnum",
        "flight",
    ],  # not known at departure, or only names
    features=features,
    model=[
        LogisticRegression(max_iter=200, tol=1e-3),
        RandomForestClassifier(n_estimators=20, min_samples_leaf=20),
        HistGradientBoostingClassifier(),
    ],
    search=ms.Search(
        {
            "HistGradientBoostingClassifier.learning_rate": ms.log(0.03, 0.3),
            "HistGradientBoostingClassifier.max_leaf_nodes": (15, 63),
            "RandomForestClassifier.max_features": ["sqrt", 0.5],
            "LogisticRegression.C": ms.log(0.01, 10.0),
        },
        trials=6,
        folds=3,
    ),
    gate=ms.Gate("roc_auc", margin=0.01, slices=["carrier", "origin"]),
    release=ms.Canary(steps=(10, 50, 100), min_units=100, min_time="1d", deadline="30d", guardrails=("errors",)),
    monitor=ms.Monitor(every="7d", label_delay="1d", tolerance=0.3),  # weeks differ; a third of a sd is news
    retrain=ms.Retrain(on=("decay", "drift"), every="60d", window="120d", cooldown="14d"),
    seed=13,
)
