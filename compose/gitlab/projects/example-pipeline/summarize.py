"""Prints the results of all training jobs as a table."""

import json
import os
import sys

server = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
print(f"# Results of {os.environ.get('CI_COMMIT_SHORT_SHA', 'this commit')}\n")
print("| Language | Accuracy | Run | Data set |\n|---|---|---|---|")
for name in sorted(sys.argv[1:]):
    with open(name, encoding="utf-8") as file:
        result = json.load(file)
    data = f"s3://{os.environ['S3_BUCKET']}/{result['data']}"
    print(f"| {result['language']} | {result['accuracy']:.3f} | {result['run']} | {data} |")
print(f"\nThe runs are at {server}.")
