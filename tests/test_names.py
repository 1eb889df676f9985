"""Which variable declares what, which one is a typo, and which is somebody else's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.registries import registry
from zconfig._registry.autoconnect import select_aliases
from zconfig._settings.fields import ConnectionSettings, endpoint_of
from zconfig._settings.load import load
from zconfig._settings.names import (
    VOCABULARY,
    InvalidName,
    Name,
    Spelling,
    check_alias,
    normalize_alias,
    parse_name,
    variable_name,
)
from zconfig._settings.options import LoaderOptions
from zconfig.errors import ConfigurationError

WORDS = sorted(VOCABULARY)
PIECES = sorted({piece for word in WORDS for piece in word.split("_")})


def aliases() -> st.SearchStrategy[str]:
    """Any valid alias, and often one made of the pieces that fields are made of."""
    piece = st.one_of(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), st.sampled_from(PIECES))
    joined = st.lists(piece, min_size=1, max_size=4).map("_".join)
    return joined.filter(lambda alias: check_alias(alias) is None)


@st.composite
def respelled(draw: st.DrawFn, names: st.SearchStrategy[str]) -> str:
    """The same name in any case, with `-` and `.` for some of its underscores."""
    letters = []
    for letter in draw(names):
        same = "_-." if letter == "_" else letter.lower() + letter.upper()
        letters.append(draw(st.sampled_from(same)))
    return "".join(letters)


def misnomer(found: Name | InvalidName | None) -> InvalidName:
    assert isinstance(found, InvalidName)
    return found


# --- what is understood -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "alias", "field", "is_file"),
    [
        ("ZILLIZ_URI", "default", "uri", False),
        ("ZILLIZ_DEFAULT_URI", "default", "uri", False),
        ("ZILLIZ_ENDPOINT", "default", "uri", False),
        ("ZILLIZ_API_KEY", "default", "token", False),
        ("ZILLIZ_USERNAME", "default", "user", False),
        ("ZILLIZ_DATABASE", "default", "db_name", False),
        ("ZILLIZ_DB_NAME", "default", "db_name", False),
        ("ZILLIZ_TOKEN_FILE", "default", "token", True),
        ("ZILLIZ_API_KEY_FILE", "default", "token", True),
        ("ZILLIZ_USERNAME_FILE", "default", "user", True),
        ("ZILLIZ_PROD_TOKEN", "prod", "token", False),
        ("ZILLIZ_PROD_TOKEN_FILE", "prod", "token", True),
        ("ZILLIZ_EU_PROD_DB_NAME", "eu_prod", "db_name", False),
        ("ZILLIZ_EU_PROD_TLS_SERVER_NAME", "eu_prod", "tls_server_name", False),
        ("ZILLIZ_DB_DB_NAME", "db", "db_name", False),
        ("ZILLIZ_API_KEY_2_API_KEY", "api_key_2", "token", False),
        ("ZILLIZ_2_URI", "2", "uri", False),
        ("zilliz_prod_uri", "prod", "uri", False),
        ("Zilliz-Eu.Prod-Uri", "eu_prod", "uri", False),
    ],
)
def test_a_name_is_split_at_its_longest_field(
    key: str, alias: str, field: str, is_file: bool
) -> None:
    assert parse_name(key) == Name(alias, Spelling(field, is_file))


@given(aliases(), st.sampled_from(WORDS))
def test_every_alias_and_field_comes_back_from_its_variable(alias: str, word: str) -> None:
    assert parse_name(variable_name(alias, word)) == Name(alias, VOCABULARY[word])


@given(st.data(), aliases(), st.sampled_from(WORDS))
def test_the_case_and_the_separators_of_a_name_do_not_matter(
    data: st.DataObject, alias: str, word: str
) -> None:
    key = data.draw(respelled(st.just(variable_name(alias, word))))
    assert parse_name(key) == Name(alias, VOCABULARY[word])


@given(st.data(), aliases())
def test_every_spelling_of_an_alias_folds_to_it(data: st.DataObject, alias: str) -> None:
    assert normalize_alias(data.draw(respelled(st.just(alias)))) == alias


def test_no_word_ends_in_another() -> None:
    ambiguous = [(a, b) for a, b in itertools.permutations(WORDS, 2) if a.endswith(f"_{b}")]
    assert ambiguous == []


def test_only_uri_and_credentials_have_a_file_form() -> None:
    in_files = {word.field for word in VOCABULARY.values() if word.is_file}
    assert in_files == {"uri", "token", "user", "password"}


# --- what cannot be an alias --------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
def test_a_field_cannot_be_an_alias(word: str) -> None:
    complaint = misnomer(check_alias(word))
    assert complaint.code == "reserved_alias"
    assert parse_name(variable_name(word, "uri")) == complaint


@pytest.mark.parametrize("alias", ["", "_", "a__b", "_a", "a_", "a b", "a/b", "ä", "a\n"])
def test_an_alias_is_made_of_letters_digits_and_single_underscores(alias: str) -> None:
    assert misnomer(check_alias(alias)).code == "bad_alias"


@pytest.mark.parametrize("key", ["ZILLIZ__URI", "ZILLIZ_A__B_URI", "ZILLIZ_A/B_URI"])
def test_a_variable_with_a_bad_alias_is_a_misnomer(key: str) -> None:
    assert misnomer(parse_name(key)).code == "bad_alias"


# --- what belongs to Kubernetes -----------------------------------------------------------------


def service_links(service: str, ports: Mapping[str, int]) -> dict[str, str]:
    """What Kubernetes injects for a Service: its own variables, then those of Docker links."""
    stem = service.upper().replace("-", "_")
    first = next(iter(ports.values()))
    links = {
        f"{stem}_SERVICE_HOST": "10.0.0.1",
        f"{stem}_SERVICE_PORT": f"{first}",
        f"{stem}_PORT": f"tcp://10.0.0.1:{first}",
    }
    for name, port in ports.items():
        links[f"{stem}_SERVICE_PORT_{name.upper().replace('-', '_')}"] = f"{port}"
        for protocol in ("tcp", "udp", "sctp"):
            link = f"{stem}_PORT_{port}_{protocol.upper()}"
            links |= {
                link: f"{protocol}://10.0.0.1:{port}",
                f"{link}_PROTO": protocol,
                f"{link}_PORT": f"{port}",
                f"{link}_ADDR": "10.0.0.1",
            }
    return links


SERVICES = ["zilliz", "zilliz-prod", "zilliz-uri", "zilliz-token", "zilliz-eu-prod-db-name"]
PORTS = {"grpc": 19530, "metrics": 9091, "proxy": 3128, "api-key": 1, "my-user": 2, "uri": 3}


@pytest.mark.parametrize("service", SERVICES)
def test_the_links_of_a_service_declare_nothing_and_are_no_typo(
    service: str, tmp_path: Path
) -> None:
    links = service_links(service, PORTS)
    assert [key for key in links if parse_name(key) is not None] == []
    configuration = load(
        {**links, "ZCONFIG_STRICT": "1"}, tmp_path, system_secrets=str(tmp_path / "none")
    )
    assert (dict(configuration.aliases), configuration.problems) == ({}, ())


def test_an_alias_cannot_be_what_kubernetes_names_a_port() -> None:
    assert misnomer(check_alias("prod_service_port")).code == "reserved_alias"
    assert misnomer(check_alias("service_port_grpc")).code == "reserved_alias"
    assert check_alias("service_portal") is None


@pytest.mark.parametrize("key", ["MILVUS_URI", "ZCONFIG_STRICT", "ZILLIZ", "ZILLIZURI", "PATH", ""])
def test_a_name_without_our_prefix_is_none_of_ours(key: str) -> None:
    assert parse_name(key) is None


# --- typos --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ZILLIZ_PROD_TOKNE", "ZILLIZ_PROD_TOKEN"),
        ("ZILLIZ_TOKNE", "ZILLIZ_TOKEN"),
        ("ZILLIZ_DEFAULT_TOKNE", "ZILLIZ_TOKEN"),
        ("ZILLIZ_TOKEN_FIEL", "ZILLIZ_TOKEN_FILE"),
        ("ZILLIZ_EU_PROD_PASWORD", "ZILLIZ_EU_PROD_PASSWORD"),
        ("ZILLIZ_PASSWD", "ZILLIZ_PASSWORD"),
        ("ZILLIZ_USER_NAME", "ZILLIZ_USERNAME"),
        ("ZILLIZ_APIKEY", "ZILLIZ_API_KEY"),
        ("ZILLIZ_PROD_DBNAME", "ZILLIZ_PROD_DB_NAME"),
        ("ZILLIZ_PROD_DB_NMAE", "ZILLIZ_PROD_DB_NAME"),
        ("ZILLIZ_ENPOINT", "ZILLIZ_ENDPOINT"),
        ("ZILLIZ_KEEP_ALIVE", "ZILLIZ_KEEPALIVE"),
        ("ZILLIZ_SSL_CERT", "ZILLIZ_TLS_CERT"),
        ("ZILLIZ_URL", "ZILLIZ_URI"),
        ("ZILLIZ_CLUSTER_URL", "ZILLIZ_CLUSTER_URI"),
        ("zilliz-prod-tokne", "ZILLIZ_PROD_TOKEN"),
        # A known field, and a tail that people add to it.
        ("ZILLIZ_TLS_CA_FILE", "ZILLIZ_TLS_CA"),
        ("ZILLIZ_TLS_CA_CERT", "ZILLIZ_TLS_CA"),
        ("ZILLIZ_TLS_CA_PATH", "ZILLIZ_TLS_CA"),
        ("ZILLIZ_TLS_CA_CERTS", "ZILLIZ_TLS_CA"),
        ("ZILLIZ_TLS_CA_CRT", "ZILLIZ_TLS_CA"),
        ("ZILLIZ_PROD_TLS_CERT_FILE", "ZILLIZ_PROD_TLS_CERT"),
        ("ZILLIZ_EU_PROD_TLS_KEY_PEM", "ZILLIZ_EU_PROD_TLS_KEY"),
        ("ZILLIZ_DB_NAME_FILE", "ZILLIZ_DB_NAME"),
        ("ZILLIZ_TOKEN_PATH", "ZILLIZ_TOKEN_FILE"),
        ("ZILLIZ_PROD_API_KEY_FILE_PATH", "ZILLIZ_PROD_TOKEN_FILE"),
    ],
)
def test_a_typo_gets_the_name_that_was_meant(key: str, meant: str) -> None:
    found = misnomer(parse_name(key))
    assert (found.code, found.suggestion) == ("unknown_name", meant)


ODD = {
    "ZILLIZ_\u200bTOKEN": "U+200B (ZERO WIDTH SPACE)",
    "\u200bZILLIZ_TOKEN": "U+200B (ZERO WIDTH SPACE)",
    "\ufeffZILLIZ_TOKEN": "U+FEFF (ZERO WIDTH NO-BREAK SPACE)",
    "ZILLIZ_TO\xa0KEN": "U+00A0 (NO-BREAK SPACE)",
    "ZILLIZ_TOK\xadEN": "U+00AD (SOFT HYPHEN)",
    "ZILLIZ\uff3fTOKEN": "U+FF3F (FULLWIDTH LOW LINE)",
    "ZILL\u0406Z_TOKEN": "U+0406 (CYRILLIC CAPITAL LETTER BYELORUSSIAN-UKRAINIAN I)",
    "\u0396ILLIZ_TOKEN": "U+0396 (GREEK CAPITAL LETTER ZETA)",
    "ZILLIZ_\u200bTOKNE": "U+200B (ZERO WIDTH SPACE)",
    "ZILLIZ_PROD_T\u041eKEN": "U+041E (CYRILLIC CAPITAL LETTER O)",
    "ZILL\u0130Z_TOKEN": "U+0130 (LATIN CAPITAL LETTER I WITH DOT ABOVE)",
    "ZILLIZ\u2010TOKEN": "U+2010 (HYPHEN)",
    "ZILLIZ_PROD\u2011TOKEN": "U+2011 (NON-BREAKING HYPHEN)",
    "ZILLIZ\u2212TOKEN": "U+2212 (MINUS SIGN)",
    "ZILLIZ_TOKEN\r": "U+000D (CONTROL CHARACTER)",
    "ZILLIZ_TOKEN\t": "U+0009 (CONTROL CHARACTER)",
    " ZILLIZ_TOKEN": "U+0020 (SPACE)",
    "ZILLIZ_TOKEN:": "U+003A (COLON)",
    "ZILLIZ_TOKEN\u3164": "U+3164 (HANGUL FILLER)",
    "ZILLIZ_TOKEN\ufe0f": "U+FE0F (VARIATION SELECTOR-16)",
    "ZILLIZ_TO\u034fKEN": "U+034F (COMBINING GRAPHEME JOINER)",
    "ZILLIZ_TOKE\u0301N": "U+0301 (COMBINING ACUTE ACCENT)",
    "ZILLIZ_TOK\u00c9N": "U+00C9 (LATIN CAPITAL LETTER E WITH ACUTE)",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", ["environment", "secrets"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_name_with_a_character_that_looks_like_none_or_another_is_told(
    name: str, place: str, tmp_path: Path, *, strict: bool
) -> None:
    environ = {"ZCONFIG_STRICT": str(strict), "ZILLIZ_URI": "http://db"}
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o755)
    if place == "environment":
        environ[name] = "s3cret"
    else:
        (secrets / name).write_text("s3cret")
    configuration = load(environ, tmp_path, system_secrets=str(secrets))

    [problem] = [each for each in configuration.problems if each.code == "unknown_name"]
    meant = "ZILLIZ_PROD_TOKEN" if "PROD" in name else "ZILLIZ_TOKEN"
    assert problem.severity == ("error" if strict else "warning")
    assert (problem.message, problem.remedy) == (
        f"is not read: its name contains {ODD[name]}",
        f"did you mean {meant}?",
    )
    assert str(problem).isprintable()


@pytest.mark.parametrize("name", ["ZILL\u0130Z_URI", "ZILLIZ_PR\u00d6D_URI", "ZILLIZ_URI\r"])
def test_the_name_that_is_told_in_place_of_an_odd_one_works(name: str, tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    [problem] = load({name: "http://db"}, tmp_path, system_secrets=none).problems
    meant = problem.remedy.removeprefix("did you mean ").removesuffix("?")
    mended = load({meant: "http://db"}, tmp_path, system_secrets=none)
    assert ([endpoint_of(each).host for each in mended.aliases.values()], mended.problems) == (
        ["db"],
        (),
    )


@pytest.mark.parametrize("odd", ["\u0646", "\udcff", "\x1b[31m"])
def test_an_alias_of_another_alphabet_is_refused_with_its_characters(
    odd: str, tmp_path: Path
) -> None:
    [problem] = load({f"ZILLIZ_{odd}X_URI": "http://db"}, tmp_path).problems
    assert (problem.code, problem.severity) == ("bad_alias", "error")
    assert problem.message.startswith(f"is not read: its name contains U+{ord(odd[0]):04X} (")
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ZCONFIG_STR\u200bICT", "ZCONFIG_STRICT"),
        ("\ufeffZCONFIG_STRICT", "ZCONFIG_STRICT"),
        ("ZCONF\u0131G_STRICT", "ZCONFIG_STRICT"),
        ("ZCONFIG_WAIT\r", "ZCONFIG_WAIT"),
    ],
)
def test_an_option_with_an_odd_character_in_its_name_is_told(
    name: str, meant: str, tmp_path: Path
) -> None:
    [problem] = load({name: "1"}, tmp_path).problems
    assert problem.message.startswith("is not read: its name contains U+")
    assert problem.remedy == f"did you mean {meant}?"
    assert load({name: "1"}, tmp_path).options == LoaderOptions()


def slips(word: str) -> Iterator[str]:
    """Every word that one slip makes of a word: a letter left out, doubled, or swapped."""
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
        yield word[: i + 1] + word[i:]
        yield word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]


@pytest.mark.parametrize("word", WORDS)
def test_one_slip_in_a_field_is_seen_through(word: str) -> None:
    wrong = [slip for slip in slips(word) if slip not in WORDS and "__" not in slip]
    keys = [f"ZILLIZ_PROD_{slip}" for slip in wrong if slip.strip("_") == slip]
    meant = {
        f"ZILLIZ_PROD_{each.upper()}" for each in WORDS if VOCABULARY[each] == VOCABULARY[word]
    }
    assert [key for key in keys if misnomer(parse_name(key)).suggestion not in meant] == []


@given(aliases(), st.sampled_from(WORDS), st.integers(0, 100))
def test_a_suggestion_is_itself_a_valid_name(alias: str, word: str, position: int) -> None:
    position %= len(word)
    found = parse_name(f"ZILLIZ_{alias}_{word[:position]}{word[position + 1 :]}")
    if isinstance(found, InvalidName) and found.suggestion:
        assert isinstance(parse_name(found.suggestion), Name)


@pytest.mark.parametrize(
    ("uri", "set_too", "meant"),
    [
        ("MILVUS_URI", "MILVUS_API_KEY", "MILVUS_TOKEN"),
        ("ZILLIZ_URI", "MILVUS_API_KEY", "ZILLIZ_TOKEN"),
        ("MILVUS_URI", "MILVUS_CLOUD_API_KEY", "MILVUS_TOKEN"),
        ("MILVUS_URI", "MILVUS_TOKNE", "MILVUS_TOKEN"),
        ("MILVUS_URI", "milvus_token", "MILVUS_TOKEN"),
        ("MILVUS_URI", "MILVUS_TOKEN_FILE", "ZILLIZ_TOKEN_FILE"),
        ("MILVUS_URI", "MILVUS_USERNAME", "MILVUS_USER"),
        ("MILVUS_URI", "MILVUS_DBNAME", "ZILLIZ_DB_NAME"),
        ("MILVUS_URI", "MILVUS_T\u041eKEN", "MILVUS_TOKEN"),
        ("MILVUS_URI", "MILVUS_TOKEN", None),
        ("MILVUS_URI", "MILVUS_HOST", None),
        ("MILVUS_URI", "MILVUS_TIMEOUT", None),
        ("MILVUS_URI", "MILVUS_COLLECTION", None),
        ("ZILLIZ_PROD_URI", "MILVUS_API_KEY", None),
    ],
)
def test_a_milvus_variable_that_is_not_read_gets_the_name_to_use(
    uri: str, set_too: str, meant: str | None, tmp_path: Path
) -> None:
    def told(environ: dict[str, str]) -> list[tuple[str, str]]:
        found = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
        return [(e.remedy, e.severity) for e in found if e.code == "unknown_name"]

    environ = {uri: "http://localhost:19530", set_too: "s3cret"}
    complete = {"ZILLIZ_TOKEN": "key", "ZILLIZ_DB_NAME": "sales"}
    (tmp_path / "x.env").write_text(f"{set_too}=s3cret\n", encoding="utf-8")
    expected = [(f"did you mean {meant}?", "warning")] if meant else []

    assert told(environ) == expected
    assert told({**environ, "ZCONFIG_STRICT": "1"}) == [(said, "error") for said, _ in expected]
    assert told({**environ, **complete}) == []  # nothing is lacking
    if set_too.isascii():
        assert told({uri: environ[uri], "ZCONFIG_ENV_FILE": "x.env"}) == expected


@pytest.mark.parametrize(
    ("name", "beside", "meant"),
    [
        ("DB", {}, "ZILLIZ_DB_NAME"),
        ("DATABASE_NAME", {}, "ZILLIZ_DB_NAME"),
        ("PROD_DB", {"PROD_URI": "http://db"}, "ZILLIZ_PROD_DB_NAME"),
        ("PROD_DB", {}, None),
        ("VECTOR_DB", {}, None),
        ("DB", {"DB_NAME": "sales"}, None),
        ("KEY", {}, "ZILLIZ_TOKEN"),
        ("PWD", {}, "ZILLIZ_PASSWORD"),
        ("CA_CERT", {}, "ZILLIZ_TLS_CA"),
        ("PROD_CA_FILE", {"PROD_URI": "https://db"}, "ZILLIZ_PROD_TLS_CA"),
        ("SERVER_PEM_PATH", {}, "ZILLIZ_TLS_CA"),
        ("CLIENT_PEM_PATH", {}, "ZILLIZ_TLS_CERT"),
        ("CLIENT_KEY", {"TOKEN": "key"}, "ZILLIZ_TLS_KEY"),
        ("CLIENT_KEY", {}, "ZILLIZ_TLS_KEY"),
        ("SERVER_NAME", {}, "ZILLIZ_TLS_SERVER_NAME"),
        ("PROXY_URL", {}, "ZILLIZ_PROXY"),
        ("TIMEOUT_SECONDS", {}, "ZILLIZ_TIMEOUT"),
        ("TIMEOUT_SEC", {"TIMEOUT": "3"}, None),
        ("TIMEOUT_MS", {}, None),
        ("CA_CERT", {"URI": "https://db", "TLS_CA": "/ca"}, None),
        ("KEY", {"TOKEN": "key"}, None),
        ("KEY", {"URI": "./x.db"}, None),
    ],
)
def test_another_word_for_a_field_that_its_alias_lacks_gets_the_name_to_use(
    name: str, beside: dict[str, str], meant: str | None, tmp_path: Path
) -> None:
    def told(**more: str) -> list[tuple[str, str]]:
        given = {"URI": "http://db", **beside, name: "sales"}
        environ = {f"ZILLIZ_{key}": value for key, value in given.items()} | more
        found = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
        return [(e.remedy, e.severity) for e in found if e.code == "unknown_name"]

    assert told() == ([(f"did you mean {meant}?", "warning")] if meant else [])
    assert told(ZCONFIG_STRICT="1") == ([(f"did you mean {meant}?", "error")] if meant else [])


@pytest.mark.parametrize(
    ("uri", "switch", "is_told"),
    [
        ("http://db", "SECURE=true", True),
        ("http://db", "TLS=1", True),
        ("http://db", "SSL=on", True),
        ("http://db", "SECURE=false", False),
        ("https://db", "SECURE=true", False),
        ("unix:/run/milvus.sock", "SECURE=true", False),
        ("./x.db", "SECURE=true", False),
    ],
)
@pytest.mark.parametrize("prefix", ["ZILLIZ_", "ZILLIZ_EU_PROD_"])
def test_a_switch_for_tls_beside_a_uri_without_it_gets_the_scheme_to_use(
    uri: str, switch: str, prefix: str, tmp_path: Path, *, is_told: bool
) -> None:
    name, _, value = switch.partition("=")

    def told(**more: str) -> list[tuple[str, str]]:
        environ = {f"{prefix}URI": uri, f"{prefix}{name}": value} | more
        found = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
        return [(e.remedy, e.severity) for e in found]

    remedy = f"use https:// in {prefix}URI, or remove {prefix}{name}"
    assert told() == ([(remedy, "warning")] if is_told else [])
    assert told(ZCONFIG_STRICT="1") == ([(remedy, "error")] if is_told else [])


def test_beside_the_uri_of_milvus_a_switch_for_tls_names_that_variable(tmp_path: Path) -> None:
    (problem,) = load({"MILVUS_URI": "http://db", "ZILLIZ_SECURE": "true"}, tmp_path).problems
    assert problem.remedy == "use https:// in MILVUS_URI, or remove ZILLIZ_SECURE"


# --- what applications really use ---------------------------------------------------------------

# Names of applications' own settings, most of them from public repositories.
APPLICATIONS_OWN = """
    ADDRESS BATCH_SIZE CANDIDATE_COLLECTION_NAME CLOUD_CLUSTER_ID CLOUD_DIMENSION
    CLOUD_FREE_CLUSTER_REGION CLOUD_HOST CLOUD_PORT CLOUD_REGION CLOUD_REGION_ID CLUSTER_ID
    CLUSTER_NAME CLUSTER_PLAN CLUSTER_PWD CLUSTER_TYPE COLLECTION COLLECTION_NAME
    COLLECTION_NAME_GEMINI CONSISTENCY_LEVEL CU_SIZE DATABASE_NAME DB DIMENSION DOC_NAME
    EMBEDDING_DIM EMBEDDING_MODEL EMBED_DIM EMBED_MODEL ENDPOINT_URL FAILOVER_TO_FIRESTORE HOST ID
    INDEX_TYPE JOB_COLLECTION_NAME JOB_NAME KEY LOG_LEVEL MAX_RETRIES METRIC_TYPE MILVUS_KEY NPROBE
    ORG_ID PARTITION_NAME PIPELINE_ID PORT PROJECT_ID PROXY_URL REGION REGION_ID SEARCH_LIMIT SECURE
    TIMEOUT_MS TIMEOUT_SEC TOP_K USE_SECURITY VECTOR_DIM VECTOR_FIELD VOLUME
"""


@pytest.mark.parametrize("name", APPLICATIONS_OWN.split())
def test_an_applications_own_name_is_left_alone(name: str, tmp_path: Path) -> None:
    environ = {f"ZILLIZ_{name}": "x", "ZCONFIG_STRICT": "true"}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert (dict(configuration.aliases), configuration.problems) == ({}, ())


@pytest.mark.parametrize(
    ("name", "alias", "field"),
    [
        ("CLOUD_URI", "cloud", "uri"),
        ("CLOUD_API_KEY", "cloud", "token"),
        ("CLOUD_TOKEN", "cloud", "token"),
        ("CLOUD_USERNAME", "cloud", "user"),
        ("CLOUD_PASSWORD", "cloud", "password"),
        ("CLOUD_DATABASE", "cloud", "db_name"),
        ("SERVERLESS_URI", "serverless", "uri"),
        ("SERVERLESS_TOKEN", "serverless", "token"),
        ("MILVUS_API_KEY", "milvus", "token"),
        ("POOL_SIZE", "default", "pool_size"),
        ("TIMEOUT", "default", "timeout"),
        # These are aliases to us, whatever they were meant to be.
        ("API_TOKEN", "api", "token"),
        ("AUTH_TOKEN", "auth", "token"),
        ("CLUSTER_ENDPOINT", "cluster", "uri"),
        ("QUERY_ENDPOINT", "query", "uri"),
    ],
)
def test_a_name_in_use_that_is_ours(name: str, alias: str, field: str) -> None:
    assert parse_name(f"ZILLIZ_{name}") == Name(alias, Spelling(field, is_file=False))


HOST = "in03-ab12.serverless.aws-eu-central-1.vectordb.zillizcloud.com"


CLOUD = f"https://{HOST}"
KEY = "b4d0f6"
PAIR = "db_ab12:p4ss"

# What people write, by name and value; the connections it declares, with what each presents; and
# what is said of the rest: whose problem or note it is, how bad, and its last words.
IN_THE_WILD = [
    ("URI TOKEN", {"default": PAIR}, []),
    ("URI API_KEY", {"default": KEY}, []),
    ("ENDPOINT API_KEY", {"default": KEY}, []),
    ("CLOUD_URI CLOUD_API_KEY", {"cloud": KEY}, []),
    ("CLOUD_URI CLOUD_TOKEN", {"cloud": PAIR}, []),
    ("CLOUD_URI CLOUD_USERNAME CLOUD_PASSWORD", {"cloud": PAIR}, []),
    ("CLUSTER_ENDPOINT CLUSTER_API_KEY", {"cluster": KEY}, []),
    (
        "CLUSTER_ENDPOINT TOKEN",
        {"cluster": None},
        [("error", "did you mean ZILLIZ_CLUSTER_TOKEN?")],
    ),
    (
        "CLUSTER_ENDPOINT API_KEY",
        {"cluster": None},
        [("note", "the token of `cluster` is ZILLIZ_CLUSTER_TOKEN")],
    ),
    ("URI TOKEN COLLECTION_NAME", {"default": PAIR}, [("note", "zconfig does not read it")]),
    ("URI API_TOKEN", {"default": None}, [("warning", "did you mean ZILLIZ_TOKEN?")]),
    ("URI AUTH_TOKEN", {"default": None}, [("warning", "did you mean ZILLIZ_TOKEN?")]),
    ("URI ACCESS_TOKEN", {"default": None}, [("warning", "did you mean ZILLIZ_TOKEN?")]),
    ("URI CLOUD_API_KEY", {"default": None}, [("warning", "did you mean ZILLIZ_TOKEN?")]),
    ("URI CLUSTER_API_KEY", {"default": None}, [("warning", "did you mean ZILLIZ_TOKEN?")]),
    ("URI DB_USERNAME DB_PASSWORD", {"default": None}, [("warning", "did you mean ZILLIZ_USER?")]),
    ("CLOUD_URI API_TOKEN", {"cloud": None}, [("warning", "did you mean ZILLIZ_CLOUD_TOKEN?")]),
    (
        "URI TOKEN API_TOKEN",
        {"default": PAIR},
        [("warning", "set ZILLIZ_API_URI, unless another tool reads it")],
    ),
    ("API_TOKEN", {}, [("warning", "set ZILLIZ_API_URI, unless another tool reads it")]),
    ("CLOUD_API_KEY", {}, [("warning", "set ZILLIZ_CLOUD_URI, unless another tool reads it")]),
    ("API_KEY", {}, [("note", "other tools use it for the control plane")]),
    ("TOKEN", {}, [("error", "set ZILLIZ_URI")]),
    # Whose name says something may lack its URI as well as be meant for another.
    ("URI PROD_TOKEN", {"default": None}, [("error", "set ZILLIZ_PROD_URI")]),
    # It has more than credentials, and so is a connection.
    ("URI API_TOKEN API_TIMEOUT", {"default": None}, [("error", "set ZILLIZ_API_URI")]),
]


def value_of(name: str) -> str:
    if name.endswith(("URI", "ENDPOINT")):
        return CLOUD
    words = {"USERNAME": "db_ab12", "PASSWORD": "p4ss", "API_KEY": KEY, "TIMEOUT": "3"}
    return next((words[word] for word in words if name.endswith(word)), PAIR)


def presented(settings: ConnectionSettings) -> str | None:
    token, password = settings.token, settings.password
    pair = f"{settings.user}:{password.get_secret_value()}" if password else None
    return token.get_secret_value() if token else pair


@pytest.mark.parametrize(
    ("names", "declared", "said"), IN_THE_WILD, ids=[names for names, *_ in IN_THE_WILD]
)
def test_what_people_write_comes_out_sensibly(
    names: str, declared: dict[str, str | None], said: list[tuple[str, str]], tmp_path: Path
) -> None:
    environ = {f"ZILLIZ_{name}": value_of(name) for name in names.split()}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    connections = configuration.aliases
    assert {alias: presented(settings) for alias, settings in connections.items()} == declared
    assert {endpoint_of(settings).host for settings in connections.values()} <= {HOST}
    told = [(each.severity, each.remedy) for each in configuration.problems]
    notes = [("note", note.message) for note in configuration.notes]
    assert len(told + notes) == len(said)
    for (kind, text), (expected, ending) in zip(told + notes, said, strict=True):
        assert (kind, text[-len(ending) :]) == (expected, ending)


def test_credentials_that_may_be_another_tools_are_an_error_if_one_is_strict(
    tmp_path: Path,
) -> None:
    environ = {"ZILLIZ_API_TOKEN": KEY, "ZILLIZ_URI": CLOUD, "ZCONFIG_STRICT": "1"}
    [problem] = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
    assert (problem.code, problem.alias, problem.severity) == ("missing_uri", "api", "error")
    assert str(problem) == (
        "api: ZILLIZ_API_TOKEN (environment): is set, but ZILLIZ_API_URI is not; "
        "did you mean ZILLIZ_TOKEN?"
    )


def test_milvus_lite_wants_no_credentials(tmp_path: Path) -> None:
    environ = {"ZILLIZ_API_TOKEN": KEY, "ZILLIZ_CLUSTER_ENDPOINT": CLOUD, "ZILLIZ_URI": "./x.db"}
    [problem] = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
    assert problem.remedy == "did you mean ZILLIZ_CLUSTER_TOKEN?"


CONTROL_PLANE = "https://api.cloud.zilliz.com"
CONNECT_CARD = "vectordb.zillizcloud.com, unless another tool reads it"

# Variables of other programs, beside our own; what is said of the alias that they read as.
OTHERS = [
    ("CLOUD_URI", CONTROL_PLANE, "control_plane", CONNECT_CARD),
    ("CONNECT_TIMEOUT", "45", "missing_uri", "did you mean ZILLIZ_TIMEOUT?"),
    ("READ_TIMEOUT", "never", "missing_uri", "did you mean ZILLIZ_TIMEOUT?"),
    ("VECTOR_DATABASE", "docs", "missing_uri", "did you mean ZILLIZ_DB_NAME?"),
    ("HTTP_PROXY", "x", "missing_uri", "did you mean ZILLIZ_PROXY?"),
]


@pytest.mark.parametrize(("name", "value", "code", "remedy"), OTHERS)
def test_what_is_another_programs_is_a_warning_and_an_error_if_asked_for_or_strict(
    name: str, value: str, code: str, remedy: str, tmp_path: Path
) -> None:
    alias = name.partition("_")[0].lower()
    environ = {"ZILLIZ_URI": "./app.db", f"ZILLIZ_{name}": value}
    with registry(**environ) as connections:
        [problem] = connections.configuration.problems
        assert (problem.code, problem.alias, problem.severity) == (code, alias, "warning")
        assert problem.remedy.endswith(remedy)
        assert list(connections) == ["default"]
        assert select_aliases(connections._registry.table, ()) == (("default",), set())
        for ask in (connections.connect, connections.spec, connections.autoconnect):
            with pytest.raises(ConfigurationError, match=f"ZILLIZ_{name}") as caught:
                ask(alias)
            assert [each.severity for each in caught.value.problems] == ["error"]
            # Where its alias is asked for, the variable is no other program's.
            assert "another tool" not in str(caught.value)
            assert "did you mean" not in str(caught.value)
    strict = load({**environ, "ZCONFIG_STRICT": "1"}, tmp_path)
    assert (code, "error") in [(each.code, each.severity) for each in strict.problems]
    assert strict.errors == strict.problems


def test_zillizs_own_example_of_an_environment_does_not_keep_ours_from_starting(
    tmp_path: Path,
) -> None:
    environ = {
        "ZILLIZ_CLOUD_TOKEN": KEY,
        "ZILLIZ_CLOUD_URI": CONTROL_PLANE,
        "ZILLIZ_CLOUD_FREE_CLUSTER_REGION": "gcp-us-west1",
        "ZILLIZ_URI": "./app.db",
    }
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert (list(configuration.aliases), configuration.errors) == (["default"], ())


def test_without_a_suggestion_the_missing_variable_is_named(tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": "./app.db", "ZILLIZ_TIMEOUT": "3", "ZILLIZ_CONNECT_TIMEOUT": "45"}
    [problem] = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
    assert problem.remedy == "set ZILLIZ_CONNECT_URI, unless another tool reads it"


@pytest.mark.parametrize("name", ["TOKEN_FILE", "USER"])
def test_an_alias_with_credentials_is_no_other_programs_though_they_are_wrong(
    name: str, tmp_path: Path
) -> None:
    environ = {"ZILLIZ_PROD_TIMEOUT": "3", f"ZILLIZ_PROD_{name}": "/nowhere"}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert "missing_uri" in [each.code for each in configuration.errors]


def test_the_control_plane_is_no_place_for_the_default_alias(tmp_path: Path) -> None:
    environ = {"ZILLIZ_URI": CONTROL_PLANE, "ZILLIZ_TOKEN": KEY}
    [problem] = load(environ, tmp_path, system_secrets=str(tmp_path / "none")).problems
    assert (problem.code, problem.alias, problem.severity) == ("control_plane", "default", "error")
    assert "vectordb.zillizcloud.com" in problem.remedy
