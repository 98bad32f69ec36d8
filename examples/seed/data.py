"""Write data.csv: 50,000 rows (or SEED_ROWS), 20 numeric columns, a target; as the table a script like `script.py`
starts from."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from sklearn.datasets import make_classification


def write(path: Path, rows: int = 50_000) -> Path:
    features, target = make_classification(rows, 20, n_informative=10, n_redundant=4, flip_y=0.03, random_state=42)
    table = pd.DataFrame(features, columns=[f"x{number}" for number in range(20)])
    table.assign(target=target).to_csv(path, index=False)
    return path


if __name__ == "__main__":
    print(f"wrote {write(Path('data.csv'), int(os.environ.get('SEED_ROWS', 50_000)))}")
