"""What a URI may look like, what it means, and why one is refused."""

from __future__ import annotations

import contextlib
import pickle
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import grpc
import pytest

from zconfig._endpoint import (
    Endpoint,
    EndpointError,
    Family,
    TransportType,
    parse_uri,
    split_userinfo,
)
from zconfig._endpoint.model import FAULTS
from zconfig._redaction import Hidden

CANARY = "c4naryc4nary"
SERVERLESS = "in03-ab12.serverless.aws-eu-central-1.vectordb.zillizcloud.com"
DEDICATED = "in01-ab12.aws-us-west-2.vectordb.zillizcloud.com"


def code_of(text):
    with pytest.raises(EndpointError) as caught:
        parse_uri(text)
    return caught.value.code


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("https://db.example", "https://db.example:443"),
        ("https://db.example:19530", "https://db.example:19530"),
        ("http://db.example", "http://db.example:19530"),
        ("http://db.example:80", "http://db.example:80"),
        ("tcp://db.example", "http://db.example:19530"),
        ("grpc://db.example", "http://db.example:19530"),
        ("grpcs://db.example", "https://db.example:443"),
        ("HTTPS://DB.Example:443/Sales", "https://db.example:443/Sales"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://localhost:65535", "http://localhost:65535"),
        ("http://milvus_standalone", "http://milvus_standalone:19530"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example:19530"),
        (
            "http://milvus.default.svc.cluster.local.",
            "http://milvus.default.svc.cluster.local.:19530",
        ),
        ("http://127.0.0.1", "http://127.0.0.1:19530"),
        ("http://[::1]", "http://[::1]:19530"),
        ("https://[2001:DB8:0:0::1]:19530/sales", "https://[2001:db8::1]:19530/sales"),
        ("http://[::ffff:10.0.0.1]:19530", "http://[::ffff:10.0.0.1]:19530"),
        ("http://[::FFFF:A00:1]", "http://[::ffff:10.0.0.1]:19530"),
        ("https://db.example/", "https://db.example:443"),
        ("https://db.example/sales", "https://db.example:443/sales"),
        ("https://db.example/sales/", "https://db.example:443/sales"),
        ("https://db.example/%73ales", "https://db.example:443/sales"),
        ("https://db.example/a%2fb%20c", "https://db.example:443/a%2Fb%20c"),
        ("https://db.example/x.db", "https://db.example:443/x.db"),
        ("https://root:Milvus@db.example", "https://db.example:443"),
        ("https://root:p@ss@db.example", "https://db.example:443"),
        ("unix:/run/milvus.sock", "unix:/run/milvus.sock"),
        ("UNIX:///run/milvus.sock", "unix:/run/milvus.sock"),
        ("unix:/run/a%20b%25.sock", "unix:/run/a%20b%25.sock"),
        ("unix:/run/a b.sock", "unix:/run/a%20b.sock"),
        ("unix:////run/milvus.sock", "unix:/run/milvus.sock"),
        ("./milvus.db", "./milvus.db"),
        ("milvus.db", "milvus.db"),
        ("/var/lib/app/../milvus.db", "/var/lib/app/../milvus.db"),
        ("~/milvus.db", "~/milvus.db"),
        ("./my data/100%.db", "./my data/100%.db"),
        ("./a:b@c.db", "./a:b@c.db"),
    ],
)
def test_an_accepted_form_is_normalised(text, uri):
    endpoint = parse_uri(text)
    assert endpoint.uri == str(endpoint) == uri
    assert parse_uri(uri) == endpoint


REFUSED = [
    ("", "empty_uri"),
    ("  \n", "empty_uri"),
    (" https://db.example", "whitespace"),
    ("https://db.example\n", "whitespace"),
    ("https://db .example", "whitespace"),
    ("https://db.example/my db", "whitespace"),
    ("./mil\tvus.db", "whitespace"),
    ("./milvus.db ", "whitespace"),
    ("./milvus\u00a0.db", "whitespace"),
    ('"https://db.example"', "quoted_uri"),
    ("'./milvus.db'", "quoted_uri"),
    ("\u201chttps://db.example\u201d", "quoted_uri"),
    ("https://db.example'", "quoted_uri"),
    ("https://db\x00.example", "control_character"),
    ("<your-uri>", "placeholder"),
    ("https://<your-cluster>.zillizcloud.com", "placeholder"),
    ("\ufeffhttps://db.example", "control_character"),
    ("https://db.example\u200b", "control_character"),
    ("./\udcff.db", "control_character"),
    ("localhost", "missing_scheme"),
    ("localhost:19530", "missing_scheme"),
    ("[::1]:19530", "missing_scheme"),
    ("root:Milvus@db.example:19530/sales", "missing_scheme"),
    ("data/milvus.sqlite", "missing_scheme"),
    ("://db.example", "missing_scheme"),
    ("None", "missing_scheme"),
    ("https:db.example", "missing_slashes"),
    ("tcp:localhost:19530", "missing_slashes"),
    ("http:/localhost", "missing_slashes"),
    ("http//localhost:19530", "missing_slashes"),
    ("ftp://db.example", "bad_scheme"),
    ("milvus://db.example", "bad_scheme"),
    ("file:///var/milvus.db", "bad_scheme"),
    ("file:milvus.db", "bad_scheme"),
    ("C:\\milvus.db", "bad_scheme"),
    ("https://", "missing_host"),
    ("https://:443", "missing_host"),
    ("https:///sales", "missing_host"),
    ("https://root:Milvus@", "missing_host"),
    ("http://::1", "bad_host"),
    ("http://fe80::1:19530", "bad_host"),
    ("http://[::1", "bad_host"),
    ("http://[::1]x", "bad_host"),
    ("http://[]", "bad_host"),
    ("http://[127.0.0.1]", "bad_host"),
    ("http://[db.example]", "bad_host"),
    ("http://256.0.0.1", "bad_host"),
    ("http://127.1", "bad_host"),
    ("http://0127.0.0.1", "bad_host"),
    ("http://2130706433", "bad_host"),
    ("http://a..b", "bad_host"),
    ("http://.a", "bad_host"),
    ("http://-a", "bad_host"),
    ("http://a-.b", "bad_host"),
    ("http://%61.example", "bad_host"),
    ("http://db\\example", "bad_host"),
    ("http://a,b", "bad_host"),
    (f"http://{'a' * 64}.b", "bad_host"),
    (f"http://{'a.' * 127}b", "bad_host"),
    ("http://b\u00fccher.example", "non_ascii_host"),
    ("http://\uff11\uff12\uff17.0.0.1", "non_ascii_host"),
    ("http://[fe80::1%eth0]", "zone_id"),
    ("http://[fe80::1%25eth0]:19530", "zone_id"),
    ("http://db.example:", "bad_port"),
    ("http://db.example:0", "bad_port"),
    ("http://db.example:65536", "bad_port"),
    ("http://db.example:+80", "bad_port"),
    ("http://db.example:-80", "bad_port"),
    ("http://db.example:080", "bad_port"),
    ("http://db.example:8_0", "bad_port"),
    ("http://db.example:\u0668\u0660", "bad_port"),
    ("http://db.example:http", "bad_port"),
    ("http://[::1]:", "bad_port"),
    (f"http://db.example:{'9' * 5000}", "bad_port"),
    ("https://db.example/a/b", "bad_path"),
    ("https://db.example/a//", "bad_path"),
    ("https://db.example/%00", "bad_path"),
    ("https://db.example/%C3%A4", "bad_path"),
    ("https://db.example/\u00e4", "bad_path"),
    ("unix:milvus.sock", "bad_socket_path"),
    ("unix:", "bad_socket_path"),
    ("unix:/", "bad_socket_path"),
    ("unix:///", "bad_socket_path"),
    ("unix:/run/", "bad_socket_path"),
    ("unix://run/milvus.sock", "bad_socket_path"),
    ("unix:/%2Frun/milvus.sock", "bad_socket_path"),
    ("unix:/run/a,b", "bad_socket_path"),
    ("unix:/run/a%2Cb", "bad_socket_path"),
    ("unix:/run/%00", "bad_socket_path"),
    ("unix:/run/%FF", "bad_socket_path"),
    ("unix:/run/a?b", "query_not_allowed"),
    ("unix:/run/a%zz", "bad_escape"),
    ("https://db.example?secure=true", "query_not_allowed"),
    ("https://db.example/sales?", "query_not_allowed"),
    ("https://db.example/#sales", "query_not_allowed"),
    ("https://root:pa/ss@db.example", "unescaped_userinfo"),
    ("https://root:pa?ss@db.example", "unescaped_userinfo"),
    ("https://root:pa#ss@db.example", "unescaped_userinfo"),
    ("https://db.example/%", "bad_escape"),
    ("https://db.example/%4", "bad_escape"),
    ("https://db.example/%zz", "bad_escape"),
    ("https://api.cloud.zilliz.com", "control_plane"),
    ("https://api.cloud.zilliz.com.cn/v2/clusters", "control_plane"),
    ("http://API.cloud.zilliz.com.", "control_plane"),
    ("https://controller.api.gcp-us-west1.zillizcloud.com/v1", "control_plane"),
    ("https://controller.api.ali-cn-hangzhou.zilliz.com.cn", "control_plane"),
    ("https://controller.api.ali-cn-hangzhou.cloud.zilliz.com.cn", "control_plane"),
    ("https://cloud.zilliz.com/orgs/org-ab/projects?tab=1", "control_plane"),
    ("https://cloud.zilliz.com.cn", "control_plane"),
    (f"http://{DEDICATED}:19530", "plaintext_cloud"),
    (f"tcp://{SERVERLESS}", "plaintext_cloud"),
    ("./milvus", "lite_name"),
    ("/var/lib/milvus.DB", "lite_name"),
    ("/var/lib/", "lite_name"),
    ("~/milvus", "lite_name"),
    (".db", "lite_name"),
    ("data/.db", "lite_name"),
]


@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_a_refused_form_has_its_code(text, code):
    assert code_of(text) == code


UNUSABLE_CREDENTIALS = [
    ("https://root:%zz@db.example", "bad_escape"),
    ("https://root%:x@db.example", "bad_escape"),
    ("https://root:%C3%A4@db.example", "bad_credentials"),
    ("https://root:\u00e4@db.example", "bad_credentials"),
    ("https://root:%0A@db.example", "bad_credentials"),
    ("https://root\x00:x@db.example", "bad_credentials"),
    ("https://:x@db.example", "missing_user"),
    ("https://:@db.example", "missing_user"),
    ("https://root:@db.example", "missing_password"),
    ("https://${USER}:x@db.example", "placeholder"),
    ("https://root:${PASSWORD}@db.example", "placeholder"),
    ("https://root:${{ secrets.PASSWORD }}@db.example", "placeholder"),
    ("https://$(token)@db.example", "placeholder"),
    ("https://root:a b@db.example", "whitespace"),
    ("https://root:a/b@db.example", "unescaped_userinfo"),
]


@pytest.mark.parametrize(("text", "code"), UNUSABLE_CREDENTIALS)
def test_unusable_credentials_have_their_code(text, code):
    with pytest.raises(EndpointError) as caught:
        split_userinfo(text)
    assert caught.value.code == code


def test_every_fault_is_reached():
    reached = {code for _, code in REFUSED + UNUSABLE_CREDENTIALS}
    assert reached | {"no_target"} == set(FAULTS)


def test_an_error_is_its_message_and_its_remedy():
    error = EndpointError("control_plane")
    assert str(error) == f"{error.message}; {error.remedy}"
    assert ".vectordb.zillizcloud.com" in error.remedy


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("db.example", Family.MILVUS),
        ("notzillizcloud.com", Family.MILVUS),
        ("zillizcloud.com.example", Family.MILVUS),
        (DEDICATED, Family.DEDICATED),
        (f"{DEDICATED}.", Family.DEDICATED),
        ("in01-ab12-privatelink.aws-us-west-2.vectordb.zillizcloud.com", Family.DEDICATED),
        ("in01-ab12.ali-cn-hangzhou.vectordb.zilliz.com.cn", Family.DEDICATED),
        ("in01-ab12.api.gcp-us-west1.zillizcloud.com", Family.DEDICATED),
        (SERVERLESS, Family.SERVERLESS),
        ("in03-ab12.serverless.gcp-us-west1.cloud.zilliz.com", Family.SERVERLESS),
        ("in03-ab12.serverless.ali-cn-hangzhou.cloud.zilliz.com.cn", Family.SERVERLESS),
        ("proj-ab12.aws-us-west-2.api.zillizcloud.com", Family.PROJECT),
        ("ab12.aws-us-west-2.api.zillizcloud.com", Family.PROJECT),
        ("proj-ab12.ali-cn-hangzhou.api.cloud.zilliz.com.cn", Family.PROJECT),
        ("proj-ab12.aws-us-west-2.vectordb.zillizcloud.com", Family.PROJECT),
        ("glo-ab12.global-cluster.vectordb.zillizcloud.com", Family.GLOBAL_CLUSTER),
        ("GLO-AB12.GLOBAL-CLUSTER.vectordb.zilliz.com.cn", Family.GLOBAL_CLUSTER),
        ("tenant.global-cluster.example", Family.GLOBAL_CLUSTER),
    ],
)
def test_the_host_tells_the_family(host, family):
    assert parse_uri(f"https://{host}").family is family


def test_a_plaintext_server_is_no_global_cluster():
    assert parse_uri("http://my-global-cluster:19530").family is Family.MILVUS


def test_a_cluster_of_zilliz_cloud_without_a_port_is_dialed_on_443():
    assert parse_uri(f"https://{DEDICATED}").port == 443
    assert parse_uri(f"https://{DEDICATED}:19530").port == 19530


def test_paths_have_neither_host_nor_database():
    socket, lite = parse_uri("unix:/run/a%20b"), parse_uri("./x.db")
    assert socket == Endpoint(TransportType.UNIX, Family.MILVUS, None, None, "/run/a b", None)
    assert lite == Endpoint(TransportType.LITE, Family.LITE, None, None, "./x.db", None)
    assert not socket.secure
    assert not lite.secure


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://db.example/sales", "dns:///db.example:443"),
        ("http://dns", "dns:///dns:19530"),
        ("http://[::1]:1", "dns:///[::1]:1"),
        ("unix:///run/a b", "unix:/run/a%20b"),
    ],
)
def test_the_target_is_what_grpc_dials(text, target):
    assert parse_uri(text).target == target


def test_milvus_lite_has_no_target_before_it_runs():
    with pytest.raises(EndpointError) as caught:
        _ = parse_uri("./x.db").target
    assert caught.value.code == "no_target"


class Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


def test_grpc_reaches_a_server_by_its_target(tmp_path):
    server = grpc.server(ThreadPoolExecutor(1), handlers=(Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{quote(str(tmp_path))}/a%20b%25")
    server.start()
    try:
        for uri in (f"http://127.0.0.1:{port}/sales", f"unix:{quote(str(tmp_path))}/a%20b%25"):
            options = [("grpc.enable_http_proxy", 0)]
            with grpc.insecure_channel(parse_uri(uri).target, options) as channel:
                assert channel.unary_unary("/any/Method")(b"ping", timeout=10) == b"ping"
    finally:
        server.stop(None).wait()


def test_userinfo_is_decoded_and_split_at_the_first_colon():
    found = split_userinfo("https://ro%40ot:p%2Fa:ss%25@db.example:443/sales")
    assert (found.uri, found.user, found.password) == (
        "https://db.example:443/sales",
        "ro@ot",
        "p/a:ss%",
    )


@pytest.mark.parametrize(
    ("text", "uri", "user", "password"),
    [
        ("https://key@db.example", "https://db.example", "key", None),
        ("https://@db.example", "https://db.example", None, None),
        ("https://root:p@ss@db.example", "https://db.example", "root", "p@ss"),
        ("https://root:a+b@db.example", "https://db.example", "root", "a+b"),
        ("ftp://root:x@:0?y", "ftp://:0?y", "root", "x"),
        ("https://root:x@db.example/\n", "https://db.example/\n", "root", "x"),
    ],
)
def test_userinfo_is_taken_out(text, uri, user, password):
    found = split_userinfo(text)
    assert (found.uri, found.user, found.password) == (uri, user, password)


@pytest.mark.parametrize(
    "text",
    ["https://db.example/sales", "./a@b.db", "unix:///run/a@b c", "root:x@db.example", "", "\n"],
)
def test_a_text_without_userinfo_comes_back_unchanged(text):
    found = split_userinfo(text)
    assert (found.uri, found.user, found.password) == (text, None, None)


@pytest.mark.parametrize(
    "text", [f"https://{CANARY}:{CANARY}@db.example", f"{CANARY}:x@db.example"]
)
def test_userinfo_shows_no_secret(text):
    assert CANARY not in repr(split_userinfo(text))


def test_an_endpoint_keeps_no_userinfo():
    endpoint = parse_uri(f"https://{CANARY}:{CANARY}@db.example/sales")
    assert CANARY not in repr(endpoint) + endpoint.uri + endpoint.target


@pytest.mark.parametrize("text", ["./x.db", "unix:/run/x", "https://db.example/sales"])
def test_hidden_text_gives_plain_parts_that_survive_pickle(text):
    endpoint = parse_uri(Hidden(text))
    assert pickle.loads(pickle.dumps(endpoint)) == parse_uri(text)  # noqa: S301 - our own bytes
    assert type(split_userinfo(Hidden(text)).uri) is str


def test_an_error_survives_pickle():
    error = pickle.loads(pickle.dumps(EndpointError("bad_port")))  # noqa: S301 - our own bytes
    assert (error.code, str(error)) == ("bad_port", str(EndpointError("bad_port")))


@pytest.mark.parametrize("read", [parse_uri, split_userinfo])
@pytest.mark.parametrize(
    "text",
    [f"https://root:{CANARY}/@db.example", f"https://{CANARY}:%zz@db.example:{CANARY}"],
)
def test_not_even_the_locals_of_a_traceback_hold_the_text(read, text):
    with pytest.raises(EndpointError) as caught:
        read(text)
    error = caught.value
    below_this_test = error.__traceback__.tb_next
    shown = traceback.TracebackException(
        type(error), error, below_this_test, capture_locals=True, compact=False
    )
    assert CANARY not in "".join(shown.format())
    assert error.__context__ is error.__cause__ is None


@pytest.mark.parametrize("read", [parse_uri, split_userinfo])
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "@",
        ":",
        "/",
        "%",
        "%41",
        "[",
        "]",
        ".",
        "a.",
        "1",
        "1.",
        "a-",
        " ",
        "\u00e4",
        "?",
        "-.",
    ],
)
@pytest.mark.parametrize(
    "prefix", ["", "https://", "https://a:", "https://a/", "unix:/", "https://["]
)
def test_a_very_long_text_is_read_in_linear_time(read, prefix, unit):
    text = prefix + unit * 200_000
    began = time.thread_time()
    with contextlib.suppress(EndpointError):
        read(text)
    assert time.thread_time() - began < 5
