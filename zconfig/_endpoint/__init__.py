"""Parse a URI into a normalised, classified endpoint, and format it.

This is pure text processing: no lookups, no file access. Decisions on which other parsers differ:

- The default port is 443 with TLS and 19530 without, as in pymilvus, and is always written out.
- The path is one database, percent-decoded; pymilvus uses the first of several segments.
- A Milvus Lite path is kept as written, spaces, `%` and `..` included; a leading `~` is expanded
  when the file is opened. A Unix socket's path is percent-decoded, as in gRPC.
- A host is ASCII: the two IDNA standards map some names to different hosts.

The forms of Zilliz Cloud's endpoints are those of its documentation, "Connection Endpoints",
"Connect to Serving Clusters", "Connect for On-Demand Search" and "Connect to Global Cluster", on
docs.zilliz.com, and for China on docs.zilliz.com.cn.
"""

from zconfig._endpoint.model import Endpoint, EndpointError, Family, TransportType, Userinfo
from zconfig._endpoint.parsing import (
    INTERNATIONAL,
    PROXY_VARIABLES,
    control_plane,
    exempting,
    is_proxy_url,
    parse_uri,
    proxy_address,
    proxy_in_force,
    proxy_name,
    split_userinfo,
    unused_proxy,
)

__all__ = [
    "INTERNATIONAL",
    "PROXY_VARIABLES",
    "Endpoint",
    "EndpointError",
    "Family",
    "TransportType",
    "Userinfo",
    "control_plane",
    "exempting",
    "is_proxy_url",
    "parse_uri",
    "proxy_address",
    "proxy_in_force",
    "proxy_name",
    "split_userinfo",
    "unused_proxy",
]
