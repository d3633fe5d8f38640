"""Reads the table, trains a classifier, logs to MLflow, and stores the data set in the project's bucket."""

import json
import os

import boto3
import mlflow
import pandas as pd
import psycopg
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

with psycopg.connect() as connection, connection.cursor() as cursor:
    cursor.execute("select * from iris")
    table = pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])

features, target = table.drop(columns="species"), table["species"]
train_x, test_x, train_y, test_y = train_test_split(features, target, test_size=0.3, random_state=1)

mlflow.set_experiment(os.environ.get("CI_PROJECT_PATH", "example-pipeline"))
with mlflow.start_run(run_name="python") as run:
    model = LogisticRegression(max_iter=500).fit(train_x, train_y)
    accuracy = model.score(test_x, test_y)
    mlflow.log_param("model", "logistic regression")
    mlflow.log_param("commit", os.environ.get("CI_COMMIT_SHORT_SHA", ""))
    mlflow.log_metric("accuracy", accuracy)
    mlflow.log_dict({"classes": model.classes_.tolist(), "weights": model.coef_.tolist()}, "model.json")

# Address and keys are in the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
key = "example-pipeline/iris-python.csv"
boto3.client("s3").put_object(
    Bucket=os.environ["S3_BUCKET"], Key=key, Body=table.to_csv(index=False).encode()
)

result = {"language": "Python", "run": run.info.run_id, "accuracy": accuracy, "data": key}
with open("result-python.json", "w", encoding="utf-8") as file:
    json.dump(result, file)
print(result)
