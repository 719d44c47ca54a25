"""How promlike talks to an HTTP server: authentication, TLS, proxies. The keys stand inside scrape configs, http_sd and others."""

from collections.abc import Iterator
from dataclasses import dataclass

from promlike.config.secret import Secret
from promlike.config.section import inline, optional, section, setting
from promlike.config.values import BOOLEAN, PATH, SECRET, TEXT, URL, choice, items, mapping

NO_SECRETS_STORE = "secrets are read from the file itself or from *_file keys; there is no secret store to refer to"
NO_OAUTH2 = "OAuth 2.0 is not supported yet; requests are sent without a token"


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """User and password sent with every request."""

    username: str = setting(TEXT, "The user.", default="")
    username_file: str = setting(PATH, "File that holds the user.", default="")
    username_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)
    password: Secret = setting(SECRET, "The password.", default=Secret(""))
    password_file: str = setting(PATH, "File that holds the password; read anew for every request.", default="")
    password_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.username and self.username_file:
            yield "username_file", "only one of username and username_file is allowed"
        if self.password and self.password_file:
            yield "password_file", "only one of password and password_file is allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The Authorization header: a type and credentials."""

    type: str = setting(TEXT, "The authentication scheme.", default="Bearer", shown=True)
    credentials: Secret = setting(SECRET, "The credentials, such as a token.", default=Secret(""))
    credentials_file: str = setting(PATH, "File that holds the credentials; read anew for every request.", default="")
    credentials_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)

    def check(self) -> Iterator[tuple[str, str]]:
        if self.credentials and self.credentials_file:
            yield "credentials_file", "only one of credentials and credentials_file is allowed"
        if self.type.strip().lower() == "basic":
            yield "type", 'the type cannot be "basic"; use basic_auth instead'


TLS_VERSION = choice("", "TLS10", "TLS11", "TLS12", "TLS13")


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """TLS towards the server: whom to trust, and who we are."""

    ca: str = setting(TEXT, "Certificates to trust, as PEM text.", default="")
    ca_file: str = setting(PATH, "File of certificates to trust.", default="")
    ca_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)
    cert: str = setting(TEXT, "Our certificate, as PEM text.", default="")
    cert_file: str = setting(PATH, "File of our certificate.", default="")
    cert_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)
    key: Secret = setting(SECRET, "The key of our certificate, as PEM text.", default=Secret(""))
    key_file: str = setting(PATH, "File of that key.", default="")
    key_ref: str = setting(TEXT, "Name of a secret.", default="", not_acted_on=NO_SECRETS_STORE)
    server_name: str = setting(TEXT, "The name the server's certificate must have, when it is not the host of the URL.", default="")
    insecure_skip_verify: bool = setting(BOOLEAN, "Trust any certificate.", default=False, shown=True)
    min_version: str = setting(TLS_VERSION, "Lowest TLS version to accept.", default="")
    max_version: str = setting(TLS_VERSION, "Highest TLS version to accept.", default="")

    def check(self) -> Iterator[tuple[str, str]]:
        for one, other in (("ca", self.ca_file), ("cert", self.cert_file), ("key", self.key_file)):
            if getattr(self, one) and other:
                yield f"{one}_file", f"only one of {one} and {one}_file is allowed"
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            yield "", "a certificate needs its key and a key its certificate: give both cert (or cert_file) and key (or key_file)"
        if self.min_version and self.max_version and self.min_version > self.max_version:
            yield "min_version", f"min_version {self.min_version} is above max_version {self.max_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """Whether requests go through a proxy."""

    proxy_url: str = setting(URL, "The proxy.", default="")
    no_proxy: str = setting(TEXT, "Comma separated hosts, IPs, CIDRs and domains that are reached directly.", default="")
    proxy_from_environment: bool = setting(BOOLEAN, "Take the proxy from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.", default=False)
    proxy_connect_header: tuple[tuple[str, tuple[Secret, ...]], ...] = setting(
        mapping(items(SECRET)), "Headers for the proxy's CONNECT request.", default=()
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.proxy_from_environment and self.proxy_url:
            yield "proxy_from_environment", "only one of proxy_url and proxy_from_environment is allowed"
        if self.proxy_from_environment and self.no_proxy:
            yield "no_proxy", "no_proxy goes with proxy_url; the environment has its own NO_PROXY"
        if self.no_proxy and not self.proxy_url and not self.proxy_from_environment:
            yield "no_proxy", "no_proxy needs proxy_url"
        if self.proxy_connect_header and not self.proxy_url and not self.proxy_from_environment:
            yield "proxy_connect_header", "proxy_connect_header needs proxy_url or proxy_from_environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """OAuth 2.0 client credentials."""

    client_id: str = setting(TEXT, "The client.", default="")
    client_secret: Secret = setting(SECRET, "Its secret.", default=Secret(""))
    client_secret_file: str = setting(PATH, "File that holds the secret.", default="")
    client_secret_ref: str = setting(TEXT, "Name of a secret.", default="")
    client_certificate_key_id: str = setting(TEXT, "Id of the key that signs the assertion.", default="")
    client_certificate_key: Secret = setting(SECRET, "The key that signs the assertion.", default=Secret(""))
    client_certificate_key_file: str = setting(PATH, "File of that key.", default="")
    client_certificate_key_ref: str = setting(TEXT, "Name of a secret.", default="")
    grant_type: str = setting(TEXT, "The grant type.", default="")
    signature_algorithm: str = setting(TEXT, "How the assertion is signed.", default="")
    iss: str = setting(TEXT, "Issuer of the assertion.", default="")
    audience: str = setting(TEXT, "Audience of the assertion.", default="")
    claims: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further claims of the assertion.", default=())
    scopes: tuple[str, ...] = setting(items(TEXT), "Scopes to ask for.", default=())
    token_url: str = setting(URL, "Where tokens come from.", default="")
    endpoint_params: tuple[tuple[str, str], ...] = setting(mapping(TEXT), "Further parameters of the token request.", default=())
    tls_config: TLSConfig | None = setting(optional(TLSConfig), "TLS towards the token server.", default=None)
    proxy: ProxyConfig = inline(ProxyConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeader:
    """Values of one header."""

    values: tuple[str, ...] = setting(items(TEXT), "Values.", default=())
    secrets: tuple[Secret, ...] = setting(items(SECRET), "Values that are masked when printed.", default=())
    files: tuple[str, ...] = setting(items(PATH), "Files that hold values.", default=())


RESERVED_HEADERS = frozenset(
    "authorization host content-encoding content-length content-type user-agent connection keep-alive proxy-authenticate "
    "proxy-authorization www-authenticate accept-encoding x-prometheus-remote-write-version x-prometheus-remote-read-version "
    "x-prometheus-scrape-timeout-seconds".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPClientConfig:
    """The client settings of one section. At most one way to authenticate."""

    basic_auth: BasicAuth | None = setting(optional(BasicAuth), "User and password.", default=None)
    authorization: Authorization | None = setting(optional(Authorization), "The Authorization header.", default=None)
    oauth2: OAuth2 | None = setting(optional(OAuth2), "OAuth 2.0 client credentials.", default=None, not_acted_on=NO_OAUTH2)
    bearer_token: Secret = setting(SECRET, "Old way to write authorization.credentials.", default=Secret(""))
    bearer_token_file: str = setting(PATH, "Old way to write authorization.credentials_file.", default="")
    tls_config: TLSConfig | None = setting(optional(TLSConfig), "TLS towards the server.", default=None)
    follow_redirects: bool = setting(BOOLEAN, "Follow HTTP redirects.", default=True, shown=True)
    enable_http2: bool = setting(BOOLEAN, "Allow HTTP/2; promlike always uses HTTP/1.1.", default=True, shown=True)
    proxy: ProxyConfig = inline(ProxyConfig)
    http_headers: tuple[tuple[str, HTTPHeader], ...] = setting(
        mapping(section(HTTPHeader)), "Further headers of every request.", default=()
    )

    def check(self) -> Iterator[tuple[str, str]]:
        ways = {
            "basic_auth": self.basic_auth,
            "authorization": self.authorization,
            "oauth2": self.oauth2,
            "bearer_token": self.bearer_token,
            "bearer_token_file": self.bearer_token_file,
        }
        given = [name for name, way in ways.items() if way]
        if len(given) > 1:
            yield given[-1], f"at most one of {', '.join(given)} is allowed"
        for name, _ in self.http_headers:
            if name.lower() in RESERVED_HEADERS:
                yield "http_headers", f'the header "{name}" is set by promlike itself and cannot be changed'
