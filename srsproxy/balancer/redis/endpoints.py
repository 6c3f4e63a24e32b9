"""How Redis is reached: by TCP, TLS or a Unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from srsproxy.balancer.redis.model import Place
from srsproxy.errors import ConfigError


class Endpoints:
    """Makes endpoints for a place, and for the Sentinels that know it.

    :param timeout: seconds for connecting.
    :raises ConfigError: the certificates of the authorities cannot be read.
    """

    def __init__(self, reactor: Any, place: Place, timeout: float) -> None:
        self._reactor = reactor
        self._place = place
        self._timeout = timeout
        self._trust = _trust(place.ca) if place.tls else None

    def direct(self) -> IStreamClientEndpoint:
        """Where Redis is if no Sentinel is asked.

        :raises ConfigError: no host can have this name.
        """
        place = self._place
        if place.socket:
            return UNIXClientEndpoint(self._reactor, place.socket, self._timeout)
        try:
            return self.at(place.host, place.port)
        except UnicodeError as error:
            raise ConfigError(f"PROXY_REDIS_HOST={place.host}: expected a host name or an IP address") from error

    def at(self, host: str, port: int) -> IStreamClientEndpoint:
        """A host and port.

        :raises UnicodeError: no host can have this name.
        """
        endpoint = HostnameEndpoint(self._reactor, host.encode("idna"), port, self._timeout)
        if self._trust is None:
            return endpoint
        return wrapClientTLS(optionsForClientTLS(host, self._trust), endpoint)


def _trust(ca: Path | None) -> Any:
    """Whose certificates to trust."""
    if ca is None:
        return platformTrust()
    try:
        certificates = load_pem_x509_certificates(ca.read_bytes())
    except OSError as error:
        raise ConfigError(f"PROXY_REDIS_CA={ca}: cannot be read") from error
    except ValueError as error:
        raise ConfigError(f"PROXY_REDIS_CA={ca}: expected certificates in PEM form") from error
    return trustRootFromCertificates([Certificate(X509.from_cryptography(one)) for one in certificates])
