"""Ruby for ``gitlab-rails runner -`` on the classes that stand for GitLab's models."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from dap.layout import compose_dir
from tests.gitlab_double.local import ROOT_PASSWORD, LocalDouble
from tests.gitlab_double.server import passwords, rails
from tests.gitlab_double.server.records import PersonalAccessToken, User

FIRST_TOKEN = """
user = User.find_by_username('root')
token = user.personal_access_tokens.active.find_by(name: 'bootstrap')
if token.nil?
  token = user.personal_access_tokens.create!(
    name: 'bootstrap', scopes: %w[api admin_mode], expires_at: 1.day.from_now
  ) { nil }
  token.set_token('glpat-a-secret-of-ours')
  token.save!
end
puts token.id
"""


def run(double: LocalDouble, script: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = rails.run(double.double, script)
    told = capfd.readouterr()
    return status, told.out, told.err


def root(double: LocalDouble) -> User:
    found = double.store.first(User, username="root")
    assert found
    return found


def test_rotation_script_changes_the_password(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701  Ruby
    template = Path(compose_dir()) / "gitlab" / "rotation" / "root_password.rb.j2"
    script = environment.from_string(template.read_text()).render(secret=lambda name: "An0ther-long-secret")
    assert run(double, script, capfd) == (0, "", "")
    assert passwords.matches("An0ther-long-secret", root(double).password)
    assert not passwords.matches(ROOT_PASSWORD, root(double).password)
    kept = root(double).password
    assert run(double, script, capfd) == (0, "", "")
    assert root(double).password == kept


def test_short_password_is_refused(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    script = "u = User.find_by(username: 'root'); u.password = u.password_confirmation = 'short'; u.save!"
    status, _, told = run(double, script, capfd)
    assert status == 1
    assert told.splitlines()[0] == (
        "Validation failed: Password is too short (minimum is 8 characters) (ActiveRecord::RecordInvalid)"
    )


def test_first_token_is_made_once(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    script = FIRST_TOKEN.replace(") { nil }", ")")
    first, second = run(double, script, capfd), run(double, script, capfd)
    assert first == second == (0, "1\n", "")
    assert double.ask("GET", "/api/v4/user", "glpat-a-secret-of-ours").json()["username"] == "root"


def test_token_beyond_a_year_is_refused(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    script = FIRST_TOKEN.replace(") { nil }", ")").replace("1.day", "400.days")
    status, _, told = run(double, script, capfd)
    assert (status, told.startswith("Validation failed: Expires at must be before ")) == (1, True)


def test_token_is_revoked(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    run(double, FIRST_TOKEN.replace(") { nil }", ")"), capfd)
    script = "PersonalAccessToken.active.where(name: 'bootstrap').each(&:revoke!)"
    assert run(double, script, capfd) == (0, "", "")
    assert [one.revoked for one in double.store.find(PersonalAccessToken)] == [True]


def test_settings_are_changed(double: LocalDouble, capfd: pytest.CaptureFixture[str]) -> None:
    change = "ApplicationSetting.current.update!(signup_enabled: false)"
    script = f"{change}\nputs ApplicationSetting.current.signup_enabled"
    assert run(double, script, capfd) == (0, "false\n", "")
    assert double.double.settings()["signup_enabled"] is False


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("User.find_by_username('root').destroy!", "undefined method `destroy!'"),
        ("Project.first", "uninitialized constant Project"),
        ("User.find_by!(username: 'nobody')", "Couldn't find User (ActiveRecord::RecordNotFound)"),
    ],
)
def test_what_is_not_there_fails_loudly(
    double: LocalDouble, capfd: pytest.CaptureFixture[str], script: str, told: str
) -> None:
    status, _, said = run(double, script, capfd)
    assert status == 1
    assert said.replace("'destroy!'", "`destroy!'").startswith(told)


def test_guessable_password_fails_the_first_start(tmp_path: Path, double: LocalDouble) -> None:
    double.store.delete(root(double))
    with pytest.raises(SystemExit) as error:
        rails.first_start(double.double, "password1234")
    assert str(error.value) == (
        "Could not create the default administrator account:\n\n"
        "--> Password must not contain commonly used combinations of words and letters"
    )
