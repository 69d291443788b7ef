"""One request over HTTP: bounded in time and size, no redirects, no proxies."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from tidegate.transparency.errors import LogError

TIMEOUT_S = 10.0


class UnreachableError(LogError):
    """Somebody did not answer, or not as expected. Says nothing about who lies."""

    code = "log_unreachable"


def request(
    method: str, url: str, *, body: bytes | None = None, most: int, timeout: float = TIMEOUT_S
) -> tuple[int, bytes]:
    """Status and body of the answer.

    Args:
        method: GET or POST.
        url: http or https.
        body: what to send.
        most: longest answer that is read, in bytes.
        timeout: seconds for each wait on the network.

    Raises:
        UnreachableError: no answer, an answer that is too long, or a URL that is none.
    """
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise UnreachableError(f"{url} is no http or https address.")
    where = f"{parts.scheme}://{parts.netloc}"
    try:
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)
        try:
            path = parts.path or "/"
            connection.request(method, path, body=body, headers={"Accept-Encoding": "identity"})
            answer = connection.getresponse()
            raw = answer.read(most + 1)
            # A connection that breaks within a sized answer is no error to http.client.
            cut = bool(answer.length) and len(raw) <= most
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreachableError(f"{where} does not answer: {error}") from error
    if cut:
        raise UnreachableError(f"{where} broke off within its answer.")
    if len(raw) > most:
        raise UnreachableError(f"{where} answers with more than {most} bytes.")
    return answer.status, raw
