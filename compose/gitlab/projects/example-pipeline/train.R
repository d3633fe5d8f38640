# Reads the table, trains a classifier, logs to MLflow, and stores the data set in the project's bucket.
library(DBI)
library(RPostgreSQL)
library(httr2)
library(jsonlite)

# Host, database, user and password are in the variables PGHOST, PGDATABASE, PGUSER and PGPASSWORD.
connection <- dbConnect(PostgreSQL())
iris_table <- dbGetQuery(connection, "select * from iris")
invisible(dbDisconnect(connection))

iris_table$virginica <- iris_table$species == 2
set.seed(1)
test_rows <- sample(nrow(iris_table), 45)
model <- glm(
  virginica ~ petal_width,
  family = binomial, data = iris_table[-test_rows, ]
)
predicted <- predict(model, iris_table[test_rows, ], type = "response") > 0.5
accuracy <- mean(predicted == iris_table$virginica[test_rows])

# MLflow's REST interface.
mlflow <- function(path, body) {
  request(Sys.getenv("MLFLOW_TRACKING_URI")) |>
    req_url_path_append("api/2.0/mlflow", path) |>
    req_auth_basic(Sys.getenv("MLFLOW_TRACKING_USERNAME"), Sys.getenv("MLFLOW_TRACKING_PASSWORD")) |>
    req_body_json(body) |>
    req_perform() |>
    resp_body_json()
}
experiment <- function(name) {
  found <- mlflow("experiments/search", list(max_results = 1, filter = sprintf("name = '%s'", name)))
  if (length(found$experiments)) {
    found$experiments[[1]]$experiment_id
  } else {
    mlflow("experiments/create", list(name = name))$experiment_id
  }
}
# Milliseconds; as text, because R would write so large a number as 1.7e12.
now <- function() sprintf("%.0f", as.numeric(Sys.time()) * 1000)

id <- experiment(Sys.getenv("CI_PROJECT_PATH", "example-pipeline"))
run <- mlflow("runs/create", list(experiment_id = id, run_name = "r", start_time = now()))$run$info$run_id
invisible(mlflow("runs/log-batch", list(
  run_id = run,
  params = list(
    list(key = "model", value = "binomial regression"),
    list(key = "commit", value = Sys.getenv("CI_COMMIT_SHORT_SHA"))
  ),
  metrics = list(list(key = "accuracy", value = accuracy, timestamp = now(), step = 0))
)))
invisible(mlflow("runs/update", list(run_id = run, status = "FINISHED", end_time = now())))

# Address and keys are in the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
key <- "example-pipeline/iris-r.csv"
csv <- paste(capture.output(write.csv(iris_table, row.names = FALSE)), collapse = "\n")
request(Sys.getenv("AWS_ENDPOINT_URL")) |>
  req_url_path_append(Sys.getenv("S3_BUCKET"), key) |>
  req_method("PUT") |>
  req_body_raw(csv, type = "text/csv") |>
  req_options(
    aws_sigv4 = paste("aws", "amz", Sys.getenv("AWS_DEFAULT_REGION"), "s3", sep = ":"),
    userpwd = paste(Sys.getenv("AWS_ACCESS_KEY_ID"), Sys.getenv("AWS_SECRET_ACCESS_KEY"), sep = ":")
  ) |>
  req_perform() |>
  invisible()

result <- list(language = "R", run = run, accuracy = accuracy, data = key)
write_json(result, "result-r.json", auto_unbox = TRUE, digits = NA)
cat(toJSON(result, auto_unbox = TRUE, digits = NA), "\n")
