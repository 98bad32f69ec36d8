"""The script this all begins with: a CSV, a split, a forest, an accuracy, MLflow."""

import mlflow
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

data = pd.read_csv("data.csv")
train, test = train_test_split(data, test_size=0.2, random_state=42)

mlflow.set_tracking_uri("sqlite:///script.db")
with mlflow.start_run():
    model = RandomForestClassifier(n_estimators=100, random_state=42)
    model.fit(train.drop(columns="target"), train["target"])
    accuracy = accuracy_score(test["target"], model.predict(test.drop(columns="target")))
    mlflow.log_param("n_estimators", 100)
    mlflow.log_metric("accuracy", accuracy)
    mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle")

print(f"accuracy {accuracy:.4f}")
