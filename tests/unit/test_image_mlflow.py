"""What MLflow's image makes of its environment, before MLflow is imported."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SERVER = Path(__file__).parents[2] / "compose" / "mlflow" / "image" / "server.py"

ENVIRONMENT = {
    "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://mlflow@postgres-service:5432/mlflow",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow",
    "MLFLOW_PUBLIC_S3_ENDPOINT_URL": "https://s3.example.org",
    "MLFLOW_ALLOWED_HOSTS": "mlflow.example.org, mlflow.example.org:*,",
}


@pytest.fixture(scope="module")
def server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_mlflow_server", SERVER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_settings_come_from_the_environment(server: ModuleType) -> None:
    settings = server.Settings.from_environment(ENVIRONMENT | {"MLFLOW_WORKERS": "4"})
    assert settings.database == ENVIRONMENT["MLFLOW_BACKEND_STORE_URI"]
    assert settings.artifacts == "s3://mlflow"
    assert settings.allowed_hosts == ("mlflow.example.org", "mlflow.example.org:*")
    assert settings.workers == 4


def test_two_workers_unless_told_otherwise(server: ModuleType) -> None:
    assert server.Settings.from_environment(ENVIRONMENT | {"MLFLOW_WORKERS": ""}).workers == 2


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_a_missing_setting_is_named(server: ModuleType, name: str) -> None:
    with pytest.raises(server.SettingError, match=f"{name} is not set"):
        server.Settings.from_environment(ENVIRONMENT | {name: " "})


@pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_workers_is_refused(server: ModuleType, workers: str) -> None:
    with pytest.raises(server.SettingError, match="MLFLOW_WORKERS"):
        server.Settings.from_environment(ENVIRONMENT | {"MLFLOW_WORKERS": workers})


def test_another_database_or_driver_is_refused(server: ModuleType) -> None:
    environment = ENVIRONMENT | {"MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow@postgres-service/mlflow"}
    with pytest.raises(server.SettingError, match=r"postgresql\+psycopg2://"):
        server.Settings.from_environment(environment)


def test_the_web_interface_may_post_from_every_allowed_host(server: ModuleType) -> None:
    values = server.Settings.from_environment(ENVIRONMENT).server_environment()
    assert values["MLFLOW_SERVER_ALLOWED_HOSTS"] == "mlflow.example.org,mlflow.example.org:*"
    origins = values["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]
    assert origins == "https://mlflow.example.org,https://mlflow.example.org:*"


def test_the_passphrase_is_read_where_there_is_one(server: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "kek_passphrase"
    assert server.read_kek_passphrase(file) == {}
    file.write_text("a passphrase\n")
    assert server.read_kek_passphrase(file) == {"MLFLOW_CRYPTO_KEK_PASSPHRASE": "a passphrase"}
