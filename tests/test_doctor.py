"""`zconfig doctor`, through real processes and click's runner: what it shows, and how it exits."""

from __future__ import annotations

import json
import re
import socket
import ssl
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tests.support import faults
from tests.support.matrix import CELLS, Cell
from tests.support.processes import call_zconfig, run_zconfig
from tests.support.servers import CREDENTIALS
from zconfig._cli.app import zconfig
from zconfig._diagnosis import HostEnvironment, ProbeTarget, StageResult, advisories
from zconfig._diagnosis.tls import is_signed_with_md5, validities, validity
from zconfig.errors import MissingExtraError, RefusedError, Stage
from zconfig.testing import fake_server
from zconfig.testing.fake_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.certificates import Certificates
    from tests.support.servers import RealMilvus

STAGES = [
    "configuration",
    "file material",
    "DNS",
    "TCP",
    "TLS",
    "HTTP/2",
    "Milvus",
    "credentials",
    "database",
]


def examine(environ: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Return what `doctor --format json` prints of the only alias, with its exit code."""
    done = CliRunner(env=environ).invoke(zconfig, ["doctor", "--format", "json", *arguments])
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    report = json.loads(done.stdout)
    assert report["exit_code"] == done.exit_code
    (found,) = report["aliases"]
    return {**found, "exit_code": done.exit_code}


def states(found: dict[str, Any]) -> dict[str, str]:
    assert [step["stage"] for step in found["stages"]] == STAGES
    return {step["stage"]: step["state"] for step in found["stages"]}


def seen(found: dict[str, Any], stage: str) -> str:
    (text,) = (step["seen"] for step in found["stages"] if step["stage"] == stage)
    return str(text)


def prod(server: RealMilvus, **fields: str) -> dict[str, str]:
    given = {"URI": server.uri, "TOKEN": CREDENTIALS, **fields}
    return {f"ZILLIZ_PROD_{name}": value for name, value in given.items()}


# --- connections that work -----------------------------------------------------------------


def test_every_stage_of_a_good_connection_is_shown_with_its_time(milvus: RealMilvus) -> None:
    found = examine(prod(milvus))
    assert found["exit_code"] == 0
    assert states(found) == {
        **dict.fromkeys(STAGES, "ok"),
        "file material": "skipped",
        "TLS": "skipped",
    }
    timed = ("configuration", "DNS", "TCP", "HTTP/2", "Milvus")
    for step in found["stages"]:
        assert (step["elapsed_ms"] is not None) is (step["stage"] in timed)
    assert seen(found, "configuration") == "ZILLIZ_PROD_URI (environment)"
    assert seen(found, "TCP") == f"127.0.0.1:{milvus.port}"
    assert seen(found, "Milvus").startswith(milvus.version)
    assert seen(found, "credentials") == "user root"
    assert seen(found, "database") == "default"
    assert found["warnings"] == []


def test_mutual_tls_shows_its_files_and_the_server_s_certificate(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    files = {
        "TLS_CA": str(certificates.ca),
        "TLS_CERT": str(certificates.client.cert),
        "TLS_KEY": str(certificates.client.key),
    }
    found = examine(prod(milvus_mtls, **files))
    assert found["exit_code"] == 0
    assert set(states(found).values()) == {"ok"}
    told = seen(found, "file material")
    assert told.startswith(f"TLS_CA {files['TLS_CA']}")
    assert files["TLS_KEY"] in told or len(told) >= 199, told  # long paths are cut short
    assert seen(found, "TLS").startswith("TLSv1.3, certificate until 3000-01-01 for localhost, ")


def test_milvus_lite_has_nothing_to_dial(lite_uri: str) -> None:
    found = examine({"ZILLIZ_URI": lite_uri})
    assert found["exit_code"] == 0
    dialed = dict.fromkeys(("DNS", "TCP", "TLS", "HTTP/2", "credentials"), "skipped")
    assert states(found) == {**dict.fromkeys(STAGES, "ok"), **dialed}
    assert seen(found, "file material") == lite_uri
    assert seen(found, "TCP") == "embedded"
    assert seen(found, "Milvus").startswith("milvus_lite-")


def test_a_unix_socket_has_no_name_to_look_up(milvus: RealMilvus, tmp_path: Path) -> None:
    path = tmp_path / "milvus.sock"

    def carry(conn: socket.socket) -> None:
        with socket.create_connection((faults.LOOPBACK, milvus.port)) as upstream:
            faults.forward(conn, upstream)

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        with closing(faults.Listener(carry, sock)):
            found = examine(prod(milvus, URI=f"unix:{path}"))
    assert found["exit_code"] == 0
    assert (states(found)["DNS"], seen(found, "DNS")) == ("skipped", "a Unix socket")
    assert seen(found, "TCP") == str(path)


def test_a_server_without_authorization_wants_no_credentials() -> None:
    with fake_server() as server:
        found = examine({"ZILLIZ_URI": server.uri})
        assert (states(found)["credentials"], seen(found, "Milvus")) == ("skipped", VERSION)
        found = examine({"ZILLIZ_URI": server.uri, "ZILLIZ_TOKEN": "s3cret-canary-key"})
    assert seen(found, "credentials") == "API key"
    assert "s3cret-canary" not in str(found)


# --- connections that do not ---------------------------------------------------------------

# In which stage a cell of the matrix shows, where it is not the cause's own: it shows where it was
# met.
MET_ELSEWHERE = {
    "closed at once": "HTTP/2",
    "closed after a word": "HTTP/2",
    "reset": "HTTP/2",
    "closed, over TLS": "TLS",
    "reset, over TLS": "TLS",
    "silence": "HTTP/2",
    "silence, over TLS": "TLS",
    "silence after the TLS handshake": "HTTP/2",
    "silence after a client certificate": "HTTP/2",
    "silence under a name that was given": "HTTP/2",
    "plaintext to TLS": "HTTP/2",
    "plaintext to OpenSSL": "HTTP/2",
    "plaintext to mutual TLS 1.3": "HTTP/2",
    "plaintext to mutual TLS 1.2": "HTTP/2",
    "TLS for HTTP/1.1": "TLS",
    "TLS for anything": "TLS",
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_first_stage_that_fails_is_shown_and_what_follows_is_skipped(
    cell: Cell, certificates: Certificates
) -> None:
    with cell.environ(certificates) as environ:
        found = examine(environ)
    failing = MET_ELSEWHERE.get(cell.name, str(cell.error.stage))
    at = STAGES.index(failing)
    shown = list(states(found).values())
    assert shown[at] == "failed", found["stages"]
    assert "failed" not in shown[:at]
    assert set(shown[at + 1 :]) <= {"skipped"}
    failure = found["failure"]
    assert failure["cause"] == cell.error.cause
    assert found["exit_code"] == failure["exit_code"] == cell.error.exit_code
    assert failure["origin"] == f"ZILLIZ_PROD_{cell.origin} (environment)"
    assert failure["remedy"]
    assert "s3cret-canary" not in str(found)


@pytest.mark.parametrize(
    ("fields", "code", "stage"),
    [
        ({"TOKEN": "root:wrong"}, 6, "credentials"),
        ({"TOKEN": ""}, 6, "credentials"),
        ({"DB_NAME": "nosuch"}, 8, "database"),
    ],
)
def test_what_milvus_refuses_is_shown_in_its_stage(
    milvus: RealMilvus, fields: dict[str, str], code: int, stage: str
) -> None:
    found = examine(prod(milvus, **fields))
    assert found["exit_code"] == code
    assert states(found)[stage] == "failed"
    assert states(found)["Milvus"] == "ok"
    assert seen(found, "Milvus") == "the server answered"


def test_a_client_certificate_that_is_refused_after_the_handshake_fails_tls(
    milvus_mtls: RealMilvus, certificates: Certificates
) -> None:
    found = examine(prod(milvus_mtls, TLS_CA=str(certificates.ca)))
    assert found["exit_code"] == 5
    assert states(found)["TLS"] == "failed"
    assert found["failure"]["cause"] == "client_certificate"


def test_a_wrong_configuration_fails_in_the_first_stage() -> None:
    found = examine({"ZILLIZ_URI": "http://127.0.0.1:0"})
    assert found["exit_code"] == 3
    assert states(found) == {**dict.fromkeys(STAGES, "skipped"), "configuration": "failed"}
    assert seen(found, "configuration") == "the port is not a number from 1 to 65535"


def test_a_broken_file_fails_before_anything_is_dialed(tmp_path: Path) -> None:
    ca = tmp_path / "none.pem"
    found = examine({"ZILLIZ_URI": "https://127.0.0.1:1", "ZILLIZ_TLS_CA": str(ca)})
    assert found["exit_code"] == 5
    assert states(found)["file material"] == "failed"
    assert seen(found, "file material") == f"TLS_CA {ca}: the file does not exist"


def test_a_milvus_lite_that_cannot_be_started_fails_as_material(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    found = examine({"ZILLIZ_URI": str(tmp_path / "x.db")})
    assert found["exit_code"] == 4
    assert states(found)["file material"] == "failed"
    assert "the format of milvus-lite 2" in seen(found, "file material")


def test_a_milvus_lite_that_is_not_installed_fails_as_material(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise MissingExtraError("milvus-lite 3", "lite")

    monkeypatch.setattr("zconfig._channel.lite._manager", fail)
    found = examine({"ZILLIZ_URI": str(tmp_path / "app.db")})
    assert (states(found)["file material"], seen(found, "file material")) == (
        "failed",
        found["failure"]["message"],
    )
    assert "run: pip install 'milvus-lite" in found["failure"]["message"]


def test_a_certificate_that_grpc_alone_does_not_trust_fails_tls(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(_: ProbeTarget) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=certificates.ca)
        context.set_alpn_protocols(["h2"])
        return context

    monkeypatch.setattr("zconfig._diagnosis.probe.client_context", trusting)
    pair = (certificates.server.key.read_bytes(), certificates.server.cert.read_bytes())
    with fake_server(credentials=grpc.ssl_server_credentials([pair])) as server:
        found = examine({"ZILLIZ_URI": server.uri})
    assert states(found)["TLS"] == "failed"
    assert "CERTIFICATE_VERIFY_FAILED" in seen(found, "TLS")
    assert found["failure"]["cause"] == "untrusted_certificate"


def test_a_probe_that_fails_alone_does_not_decide(
    milvus: RealMilvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = (StageResult(Stage.TCP, 0.1, "refused", RefusedError),)
    monkeypatch.setattr("zconfig._cli.doctor.stages", lambda *_: failed)
    found = examine(prod(milvus))
    assert (found["exit_code"], found["state"]) == (0, "connected")
    assert [states(found)[stage] for stage in STAGES[3:]] == [
        "failed",
        "skipped",
        "skipped",
        "ok",
        "ok",
        "ok",
    ]


def test_a_server_that_goes_after_the_probe_fails_the_stage_of_milvus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed = tuple(StageResult(stage, 0.1, "") for stage in (Stage.DNS, Stage.TCP, Stage.HTTP2))
    monkeypatch.setattr("zconfig._cli.doctor.stages", lambda *_: passed)
    with faults.refused() as port:
        found = examine({"ZILLIZ_URI": f"http://127.0.0.1:{port}"})
    assert (found["failure"]["cause"], found["failure"]["stage"]) == ("refused", "TCP")
    assert (states(found)["TCP"], states(found)["Milvus"]) == ("ok", "failed")


# --- several aliases, options, formats -----------------------------------------------------


def test_aliases_are_chosen_and_their_exit_code_is_that_of_check(lite_uri: str) -> None:
    with faults.refused() as port:
        environ = {
            "ZILLIZ_URI": lite_uri,
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_DOWN_REQUIRED": "false",
        }
        for arguments in ([], ["down"], ["default"], ["--alias", "down"], ["nosuch"]):
            checked = CliRunner(env=environ).invoke(zconfig, ["check", *arguments])
            done = CliRunner(env=environ).invoke(zconfig, ["doctor", *arguments])
            assert done.exit_code == checked.exit_code, (arguments, done.stdout)


def test_a_timeout_ends_what_hangs(certificates: Certificates) -> None:
    with faults.listening(faults.swallow) as port:
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{port}", "ZILLIZ_TIMEOUT": "3600"}
        found = examine(environ, "--timeout", "0.2")
    assert found["failure"]["cause"] == "server_silent"
    assert found["failure"]["elapsed_ms"] < 60_000


def test_nothing_configured_says_which_variable_to_set() -> None:
    done = call_zconfig("doctor")
    assert done.returncode == 3
    assert "set ZILLIZ_URI" in done.stdout


def test_the_table_is_for_reading_and_the_only_thing_on_standard_output(
    milvus: RealMilvus, tmp_path: Path
) -> None:
    with faults.refused() as port:
        environ = {
            **prod(milvus),
            "ZILLIZ_DOWN_URI": f"http://127.0.0.1:{port}",
            "ZILLIZ_BAD_URI": "http://127.0.0.1:0",
            "ZILLIZ_BAD_TIMEOUT": "soon",
        }
        done = run_zconfig("doctor", environ={**environ, "ZCONFIG_LOG_FORMAT": "json"})
    assert done.returncode == 3
    assert "zconfig.connection.connected" in done.stderr
    assert "zconfig._connection" not in done.stdout
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert all(line == line.rstrip() for line in lines)
    good, down, bad = (
        done.stdout.index(heading)
        for heading in (
            f"prod  {milvus.uri}  connected\n",
            f"down  http://127.0.0.1:{port}  failed\n",
            "bad  failed\n",
        )
    )
    rows = [line.split() for line in done.stdout[good:down].splitlines()[4:13]]
    assert [" ".join(row[:2]) for row in rows[:2]] == ["configuration ok", "file material"]
    assert rows[-1] == ["database", "ok", "default"]
    told = done.stdout[down:bad]
    assert "failed  connection refused (refused, transient)\n" in told
    assert "set by  ZILLIZ_DOWN_URI (environment)\n" in told
    assert "remedy  start the server, or correct the port in ZILLIZ_DOWN_URI\n" in told
    assert done.stdout[bad:].count("\nremedy  ") == 2
    assert lines[-1] == "1 of 3 aliases are connected"


def test_grpc_s_own_words_do_not_stand_before_ours(certificates: Certificates) -> None:
    (cell,) = (cell for cell in CELLS if cell.name == "an expired certificate")
    with cell.environ(certificates) as environ:
        done = run_zconfig("doctor", environ=environ)
    assert (done.returncode, done.stderr) == (5, "")


# --- warnings ------------------------------------------------------------------------------

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def issue(directory: Path, name: str, end: datetime) -> tuple[Path, Path]:
    """Return a certificate that ends then, and its key."""
    issued = trustme.CA().issue_cert("localhost", not_before=end - 400 * DAY, not_after=end)
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=31), None),
        (timedelta(days=30), None),
        (timedelta(days=30, seconds=-1), "expires on {:%Y-%m-%d}, in 29 days: renew it"),
        (timedelta(days=1), "expires on {:%Y-%m-%d}, in 1 day: renew it"),
        (timedelta(hours=3), "expires on {:%Y-%m-%d}, in 0 days: renew it"),
        (timedelta(seconds=-1), "expired on {:%Y-%m-%d}: renew it"),
    ],
)
@pytest.mark.parametrize("field", ["cert", "ca"])
def test_a_certificate_that_ends_within_30_days_is_warned_about(
    field: str, left: timedelta, told: str | None, tmp_path: Path
) -> None:
    path, _ = issue(tmp_path, "soon", NOW + left)
    at = ProbeTarget("db.test", 443, secure=True)
    target = replace(at, cert=str(path)) if field == "cert" else replace(at, ca=str(path))
    whose = {"cert": "the client certificate in TLS_CERT", "ca": "the authority in TLS_CA"}[field]
    expected = f"{whose} {path} {told.format(NOW + left)}" if told else None
    assert advisories(target, (), HostEnvironment(), NOW) == ((expected,) if expected else ())


def test_of_a_bundle_the_authority_that_lasts_longest_counts(tmp_path: Path) -> None:
    old, _ = issue(tmp_path, "old", NOW - DAY)
    new, _ = issue(tmp_path, "new", NOW + 300 * DAY)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.read_bytes() + b"# a comment\n" + new.read_bytes())
    target = ProbeTarget("db.test", 443, secure=True, ca=str(bundle))
    assert [each.end for each in validities(str(bundle))] == [NOW - DAY, NOW + 300 * DAY]
    assert advisories(target, (), HostEnvironment(), NOW) == ()


def test_a_server_s_certificate_that_ends_soon_is_warned_about_though_it_connects(
    tmp_path: Path,
) -> None:
    end = datetime.now(UTC) + 9 * DAY + timedelta(hours=1)
    cert, key = issue(tmp_path, "server", end)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
    with fake_server(credentials=credentials) as server:
        found = examine({"ZILLIZ_URI": server.uri, "ZILLIZ_TLS_CA": str(cert)})
    assert found["exit_code"] == 0, found
    by_server, by_authority = found["warnings"]
    assert by_server == f"the server's certificate expires on {end:%Y-%m-%d}, in 9 days: renew it"
    assert by_authority.startswith(f"the authority in TLS_CA {cert} expires on")


def test_credentials_in_the_clear_are_warned_about_once() -> None:
    environ = {"ZILLIZ_URI": "http://db.test:19530", "ZILLIZ_TOKEN": "key", "ZILLIZ_TIMEOUT": "0.1"}
    done = call_zconfig("doctor", environ=environ)
    assert done.stdout.count("the credentials are sent to db.test without TLS") == 1, done.stdout


def test_a_proxy_that_is_not_used_is_a_hint_and_no_warning_besides() -> None:
    found = examine({"ZILLIZ_URI": "http://db.invalid:19530", "HTTPS_PROXY": "http://127.0.0.1:9"})
    assert "HTTPS_PROXY is set, but gRPC reads only https_proxy" in found["failure"]["hint"]
    assert found["failure"]["hint"].endswith("set ZILLIZ_PROXY")
    assert found["warnings"] == []


def test_the_surroundings_are_warned_about_though_it_connects() -> None:
    with fake_server() as server, faults.listening(faults.connect_proxy) as proxy:
        environ = {
            "ZILLIZ_URI": server.uri,
            "http_proxy": f"http://user:s3cret-canary@127.0.0.1:{proxy}",
            "GRPC_DNS_RESOLVER": "native",
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        }
        done = run_zconfig("doctor", environ=environ)
        assert done.returncode == 0, done.stdout
        assert re.findall("^warning  (.*)$", done.stdout, re.MULTILINE) == [
            f"http_proxy routes this connection through http://********@127.0.0.1:{proxy}",
            "GRPC_ENABLE_FORK_SUPPORT=0 can make gRPC hang after a fork: unset it",
        ]
        assert f"127.0.0.1:{proxy}, a proxy tunnel to 127.0.0.1:{server.port}" in done.stdout
        done = run_zconfig("doctor", environ={**environ, "GRPC_DNS_RESOLVER": "ares"})
    assert "warning  GRPC_DNS_RESOLVER=ares makes gRPC bypass the resolver" in done.stdout


def test_a_hint_is_not_repeated_as_a_warning() -> None:
    with faults.refused() as port:
        proxy = f"http://127.0.0.1:{port}"
        found = examine({"ZILLIZ_URI": "http://db.test:1", "ZILLIZ_PROXY": proxy})
    assert found["failure"]["hint"] == f"ZILLIZ_PROXY routes this connection through {proxy}"
    assert found["warnings"] == []


# --- certificates --------------------------------------------------------------------------

INSTANTS = st.datetimes(datetime(1950, 1, 1), datetime(9999, 1, 1)).map(  # noqa: DTZ001 - mapped
    lambda each: each.replace(microsecond=0, tzinfo=UTC)
)
AUTHORITY = trustme.CA()


@given(INSTANTS, INSTANTS)
def test_the_validity_is_read_as_cryptography_reads_it(one: datetime, other: datetime) -> None:
    start, end = sorted((one, other))
    issued = AUTHORITY.issue_cert("localhost", not_before=start, not_after=end)
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    found = validity(certificate.public_bytes(Encoding.DER))
    assert (found.start, found.end) == (
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


@given(st.binary(max_size=200))
def test_what_is_no_certificate_has_no_validity(data: bytes) -> None:
    assert validity(data) is None
    assert not is_signed_with_md5(data)


@pytest.mark.parametrize(
    "written", [b"20261301000000Z", b"2026-01-01 0000", b"2026010100\xff\xff00Z"]
)
def test_a_date_that_is_none_leaves_a_certificate_without_validity(written: bytes) -> None:
    issued = AUTHORITY.issue_cert("localhost", not_after=datetime(2050, 1, 2, tzinfo=UTC))
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    der = certificate.public_bytes(Encoding.DER)
    assert validity(der)
    assert validity(der.replace(b"20500102000000Z", written)) is None


def test_a_file_without_certificates_has_no_validity(tmp_path: Path) -> None:
    path = tmp_path / "junk.pem"
    assert validities(str(path)) == ()
    path.write_text("-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n")
    assert validities(str(path)) == ()
